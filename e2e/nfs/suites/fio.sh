# fio: written with checksums, read back and verified; sequential, random, mixed, direct and with fsync, several jobs at once.
size=${FIO_SIZE:-8M}
common=(--group_reporting --verify=crc32c --verify_fatal=1 --do_verify=1 --randrepeat=0 --ioengine=psync --size="$size" --end_fsync=1)
fio "${common[@]}" --name=sequential --rw=write --bs=1M --numjobs=2
fio "${common[@]}" --name=random --rw=randwrite --bsrange=512-64k --bs_unaligned --numjobs=3 --fsync=64
fio "${common[@]}" --name=mixed --rw=randrw --bs=4k --numjobs=2 --fdatasync=32
fio "${common[@]}" --name=direct --rw=randwrite --bs=16k --numjobs=2 --direct=1
remount
fio "${common[@]}" --name=sequential --rw=read --bs=1M --numjobs=2 --verify_only
