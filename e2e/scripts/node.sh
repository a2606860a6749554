cat > all.js <<'EOF'
const crypto = require('crypto'), zlib = require('zlib'), { Worker, isMainThread, parentPort, workerData } = require('worker_threads');
const { execFileSync } = require('child_process'), http = require('http'), fs = require('fs');
if (!isMainThread) {
  const map = new Map(); let x = workerData + 1;
  for (let i = 0; i < 200000; ++i) { x = (x * 69069 + 1) % 4294967296; map.set('k' + (x % 20011), { i, x }); }
  let sum = 0; for (const v of map.values()) sum = (sum + v.i) % 1000003;
  parentPort.postMessage([workerData, map.size, sum]);
} else (async () => {
  const all = await Promise.all([...Array(6).keys()].map(n => new Promise((resolve, reject) => {
    const w = new Worker(__filename, { workerData: n }); w.on('message', resolve); w.on('error', reject); })));
  console.log(JSON.stringify(all));
  const text = Buffer.from('some words and numbers 12345 '.repeat(50000));
  const packed = zlib.gzipSync(text, { level: 9 }), brotli = zlib.brotliCompressSync(text);
  console.log(zlib.gunzipSync(packed).equals(text), zlib.brotliDecompressSync(brotli).equals(text), brotli.length);
  console.log(crypto.createHash('sha512').update(text).digest('hex'), crypto.pbkdf2Sync('p', 's', 20000, 32, 'sha256').toString('hex'));
  const { publicKey, privateKey } = crypto.generateKeyPairSync('rsa', { modulusLength: 1024 });
  console.log(crypto.verify('sha256', text, publicKey, crypto.sign('sha256', text, privateKey)));
  let big = 1n; for (let i = 1n; i < 1500n; ++i) big *= i; console.log(big.toString().length);
  console.log(JSON.parse(JSON.stringify(Array.from({ length: 50000 }, (_, i) => ({ i, s: 'x'.repeat(i % 50) })))).length);
  console.log(('a'.repeat(3000) + 'b').replace(/(a+)+b/, (m) => m.length));
  const buffers = []; for (let i = 0; i < 2000; ++i) buffers.push(Buffer.alloc(i * 17, i)); console.log(Buffer.concat(buffers).length);
  console.log(execFileSync('sh', ['-c', 'echo from a child']).toString().trim());
  const server = http.createServer((q, r) => r.end(text)).listen(0, '127.0.0.1', () => {
    let left = 30, total = 0; for (let i = 0; i < 30; ++i) http.get({ port: server.address().port, host: '127.0.0.1' }, (r) => {
      r.on('data', (d) => total += d.length); r.on('end', () => { if (--left === 0) { console.log(total); server.close(); } }); }); });
  fs.promises.readFile('/etc/passwd').then((d) => console.log(d.length));
})();
EOF
say all node all.js
say collected node --expose-gc --max-old-space-size=64 -e 'let n = 0; for (let i = 0; i < 200; ++i) { let a = []; for (let j = 0; j < 20000; ++j) a.push({ i, j }); n += a.length; if (i % 50 == 0) gc(); } console.log(n)'
say wasm node -e 'const b = Uint8Array.of(0,97,115,109,1,0,0,0,1,7,1,96,2,127,127,1,127,3,2,1,0,7,7,1,3,97,100,100,0,0,10,9,1,7,0,32,0,32,1,106,11); console.log(new WebAssembly.Instance(new WebAssembly.Module(b)).exports.add(40, 2))'
say errors node -e 'throw new Error("on purpose")'
