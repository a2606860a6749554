export GOPATH=/tmp/w/path GOCACHE=/tmp/w/cache GOFLAGS=-mod=mod GO111MODULE=off GOTOOLCHAIN=local HOME=/tmp/w
cat > all.go <<'EOF'
package main

// #include <stdlib.h>
// #include <string.h>
// static void *filled(size_t size) { void *block = malloc(size); if (block) memset(block, 7, size); return block; }
import "C"
import (
	"crypto/sha256"
	"fmt"
	"os/exec"
	"os/user"
	"sort"
	"strings"
	"sync"
	"unsafe"
)

func main() {
	var wait sync.WaitGroup
	sums := make([]int, 16)
	for n := range sums {
		wait.Add(1)
		go func(n int) {
			defer wait.Done()
			counts := map[string]int{}
			for i := 0; i < 100000; i++ {
				counts[fmt.Sprint(i*31%5003+n)]++
			}
			for k := 0; k < 500; k++ {
				block := C.filled(C.size_t(k*100 + 1))
				sums[n] += int(*(*byte)(unsafe.Pointer(uintptr(block) + uintptr(k*100))))
				C.free(block)
			}
			sums[n] += len(counts)
		}(n)
	}
	wait.Wait()
	words := strings.Fields(strings.Repeat("the quick brown fox ", 50000))
	sort.Strings(words)
	fmt.Println(sums, words[0], words[len(words)-1], len(words))
	fmt.Printf("%x\n", sha256.Sum256([]byte(strings.Join(words, " "))))
	who, err := user.Lookup("www-data")
	fmt.Println(who, err)
	out, err := exec.Command("echo", "from a child").Output()
	fmt.Printf("%s %v\n", out, err)
}
EOF
say version go version
say build go build -p 2 -o all all.go
say run ./all
say static bash -c 'CGO_ENABLED=0 go build -p 2 -o plain /usr/share/go-1.19/test/fibo.go && ./plain -short -n 2000 2>&1 | tail -c 200'
say vet go vet all.go
say gofmt bash -c 'gofmt -l all.go; gofmt -d /usr/share/go-1.19/src/sort | wc -l'
say errors bash -c 'echo "package main; func main() { x := 1 }" > bad.go; go build bad.go'
