sed 's/\[4096, 1\],//; s/\[16384, 1\],//;s/\[65536, 1\],//;s/\[262144, 2\],//;s/\[1 << 20, 1\],//; s/for (const drivers of \[1, 2\])/for (const drivers of [1])/' bench/interconnect.ts > bench/tmp-int.ts
timeout 60 node bench/tmp-int.ts --seconds 3 2>&1 | grep KiB
