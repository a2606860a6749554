cat > All.java <<'EOF'
import java.util.*;
import java.util.concurrent.*;
import java.util.stream.*;
import java.util.zip.*;
import java.nio.*;
import java.security.*;
public class All {
  record Pair(String key, long value) {}
  public static void main(String[] arguments) throws Exception {
    System.out.println(IntStream.range(0, 400000).parallel().mapToObj(Integer::toString)
        .collect(Collectors.groupingByConcurrent(String::length, Collectors.counting())));
    ExecutorService pool = Executors.newFixedThreadPool(8);
    List<Future<Long>> all = new ArrayList<>();
    for (int i = 0; i < 16; ++i) { final int n = i; all.add(pool.submit(() -> {
      Map<String, Pair> map = new HashMap<>();
      for (int k = 0; k < 40000; ++k) map.put("k" + (k * 31 + n) % 9000, new Pair("v" + k, k));
      return map.values().stream().mapToLong(Pair::value).sum(); })); }
    for (Future<Long> one : all) System.out.print(one.get() + " ");
    pool.shutdown();
    Deflater deflater = new Deflater(9); byte[] text = "the same words again ".repeat(20000).getBytes();
    deflater.setInput(text); deflater.finish(); byte[] out = new byte[text.length]; int size = deflater.deflate(out);
    Inflater inflater = new Inflater(); inflater.setInput(out, 0, size);
    System.out.println(size + " " + inflater.inflate(new byte[text.length]));
    for (int i = 0; i < 300; ++i) ByteBuffer.allocateDirect(1 << 18).putLong(i, i);
    System.out.println(HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(text)));
    try { List<byte[]> hog = new ArrayList<>(); while (true) hog.add(new byte[1 << 24]); }
    catch (OutOfMemoryError error) { System.out.println("heap exhausted, and caught"); }
    System.out.println(new ProcessBuilder("echo", "from a child").start().inputReader().readLine());
  }
}
EOF
say javac javac -Xlint:all All.java
for gc in Serial Parallel G1; do
    say "run-$gc" java -Xmx128m -XX:+Use${gc}GC All
done
say interpreted java -Xint -Xmx64m -version
say javap bash -c 'javap -c -p java.util.concurrent.ConcurrentHashMap | sha256sum'
say jar bash -c 'jar --create --date 2026-01-01T00:00:00Z --file all.jar *.class; jar tf all.jar | sort'
say keytool keytool -genkeypair -alias a -keyalg EC -dname CN=a -storepass secret -keystore store
say jshell bash -c 'echo "IntStream.range(0, 100).sum()" | jshell -s - 2>&1; echo "System.out.println(6 * 7)" | jshell -s -'
say errors java NoSuchClass
