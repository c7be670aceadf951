# What each corner of POSIX answers, as facts: the host compares them with the reference's.
"$BIN/posix" >&3
