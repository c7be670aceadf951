# A directory of ENTRIES names, read while others come and go.
"$BIN/readdir" big "${ENTRIES:-10000}" >&3
