# Random operations on one file, each compared with a model of its bytes; several files at once, each from a seed of its own.
for seed in 1 2 3; do
  "$BIN/fsx" "file-$seed" "$seed" "${FSX_OPS:-3000}" &
  pids[seed]=$!
done
for pid in "${pids[@]}"; do wait "$pid"; done
remount
for seed in 1 2 3; do "$BIN/fsx" --compare "file-$seed"; done
