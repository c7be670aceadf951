/*
 * nfsbench: a raw NFSv3 load generator for comparing servers.
 *
 *   nfsbench -h 127.0.0.1 -p NFSPORT -m MOUNTPORT -e /export -o OP [-q DEPTH] [-c CONNECTIONS] [-b BYTES] [-s FILEMIB]
 *            [-t SECONDS] [-n NAMES] [-r]
 *
 * OP    null | getattr | lookup | read | write | create | remove
 *       read and write go through one file in sequence, or with -r at random offsets; write is stable (FILE_SYNC);
 *       create makes NAMES new files and remove takes them away again: both run to their end, -t does not apply to them
 * -q    calls in flight, in total, spread over the connections: a closed loop, every answer is followed by the next call
 *
 * One thread, libnfs' asynchronous RPC layer, no cache: what is measured is the server. One line of JSON on standard
 * output; latency runs from the call's submission to its answer. A wrong answer counts as an error as much as a refused one:
 * each 4 KiB of the file carry their own number, every read is checked for it, and after writing a sample is read back.
 * Exit status 0 only without errors.
 *
 *   cc -O2 -o nfsbench nfsbench.c -lnfs
 */
#include <sys/time.h> /* libnfs.h does not include what it uses */

#include <nfsc/libnfs.h> /* before the others: they use its macros */

#include <nfsc/libnfs-raw.h>

#include <nfsc/libnfs-raw-mount.h>
#include <nfsc/libnfs-raw-nfs.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { PAGE = 4096, FILL = 1 << 20, CONNECTIONS_MAX = 64, SILENCE_MS = 20000, SAMPLES = 64 };
enum operation { OP_NULL, OP_GETATTR, OP_LOOKUP, OP_READ, OP_WRITE, OP_CREATE, OP_REMOVE };
static const char *const operation_names[] = {"null", "getattr", "lookup", "read", "write", "create", "remove"};
static const char file_name[] = "nfsbench.data";
static const char folder_name[] = "nfsbench.names";

struct handle {
  unsigned length;
  char bytes[64];
};

struct call {
  struct rpc_context *rpc;
  double began;
  uint64_t offset;
  char name[32];
};

static struct {
  const char *host, *export;
  int nfs_port, mount_port;
  enum operation operation;
  int depth, connections, random;
  uint32_t bytes;
  uint64_t file_bytes;
  double seconds;
  long names;
} option = {.host = "127.0.0.1", .export = "/", .nfs_port = 2049, .mount_port = 2049, .operation = OP_NULL, .depth = 1,
            .connections = 1, .bytes = PAGE, .file_bytes = 64u << 20, .seconds = 2, .names = 2000};

static struct rpc_context *connections[CONNECTIONS_MAX];
static struct handle root, file, folder;
static char *content;

static double deadline;
static int in_flight;
static uint64_t next_position;
static long next_name;
static uint64_t writes;
static uint64_t operations, bytes_moved, errors;
static uint32_t *latencies;
static size_t latency_count, latency_capacity;

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static uint64_t random64(void) {
  static uint64_t state = 0x9e3779b97f4a7c15u;
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return state;
}

__attribute__((noreturn)) static void die(const char *what, const char *why) {
  fprintf(stderr, "nfsbench: %s: %s\n", what, why);
  exit(2);
}

static void count_error(const char *what, int status) {
  if (errors++ < 5) fprintf(stderr, "nfsbench: %s: %d\n", what, status);
}

/* ---- the file's content: the number of each page in its first 8 bytes ---- */

static uint64_t page_mark(uint64_t page) { return page * 0x2545f4914f6cdd1du + 1; }

static void mark_pages(char *buffer, uint64_t offset, uint32_t length) {
  for (uint32_t at = 0; at < length; at += PAGE) {
    uint64_t mark = page_mark((offset + at) / PAGE);
    memcpy(buffer + at, &mark, sizeof mark);
  }
}

static int pages_are_right(const char *buffer, uint64_t offset, uint32_t length) {
  for (uint32_t at = 0; at + PAGE <= length; at += PAGE) {
    uint64_t mark = page_mark((offset + at) / PAGE);
    if (memcmp(buffer + at, &mark, sizeof mark) != 0) return 0;
  }
  return 1;
}

/* ---- connections ---- */

/* Serves these connections until *flag, or until a server has been silent for too long. */
static void serve_until(struct rpc_context **contexts, int count, const int *flag, int wanted) {
  struct pollfd set[CONNECTIONS_MAX];
  while (*flag != wanted) {
    for (int i = 0; i < count; i++) set[i] = (struct pollfd){.fd = rpc_get_fd(contexts[i]), .events = (short)rpc_which_events(contexts[i])};
    int ready = poll(set, (nfds_t)count, SILENCE_MS);
    if (ready == 0) die("poll", "no answer for 20 s");
    for (int i = 0; i < count; i++)
      if (set[i].revents != 0 && rpc_service(contexts[i], set[i].revents) < 0) die("connection", rpc_get_error(contexts[i]));
  }
}

static void on_connect(struct rpc_context *rpc, int status, void *data, void *private_data) {
  (void)data;
  if (status != RPC_STATUS_SUCCESS) die("connect", rpc_get_error(rpc));
  *(int *)private_data = 1;
}

static struct rpc_context *connect_to(int port, int program, int version) {
  struct rpc_context *rpc = rpc_init_context();
  int done = 0;
  if (rpc == NULL || rpc_connect_port_async(rpc, option.host, port, program, version, on_connect, &done) != 0)
    die("connect", rpc == NULL ? "no memory" : rpc_get_error(rpc));
  serve_until(&rpc, 1, &done, 1);
  return rpc;
}

/* ---- single calls for the preparation ---- */

struct waiting {
  int done;
  nfsstat3 status;
  struct handle *handle;
  uint64_t size;
  uint32_t count;
  int right;
  uint64_t offset;
};

static void take_handle(struct handle *to, const char *bytes, unsigned length) {
  if (length > sizeof to->bytes) die("handle", "longer than 64 bytes");
  to->length = length;
  memcpy(to->bytes, bytes, length);
}

static nfs_fh3 wire(struct handle *handle) { return (nfs_fh3){{handle->length, handle->bytes}}; }

static struct waiting *answered(int status, void *data, void *private_data) {
  struct waiting *wait = private_data;
  wait->done = 1;
  if (status != RPC_STATUS_SUCCESS) die("call", status == RPC_STATUS_ERROR ? (char *)data : "cancelled");
  return wait;
}

static void on_mount(struct rpc_context *rpc, int status, void *data, void *private_data) {
  (void)rpc;
  struct waiting *wait = answered(status, data, private_data);
  mountres3 *result = data;
  wait->status = (nfsstat3)result->fhs_status;
  if (result->fhs_status == MNT3_OK)
    take_handle(wait->handle, result->mountres3_u.mountinfo.fhandle.fhandle3_val, result->mountres3_u.mountinfo.fhandle.fhandle3_len);
}

static void on_prepare_lookup(struct rpc_context *rpc, int status, void *data, void *private_data) {
  (void)rpc;
  struct waiting *wait = answered(status, data, private_data);
  LOOKUP3res *result = data;
  wait->status = result->status;
  if (result->status == NFS3_OK)
    take_handle(wait->handle, result->LOOKUP3res_u.resok.object.data.data_val, result->LOOKUP3res_u.resok.object.data.data_len);
}

static void on_prepare_getattr(struct rpc_context *rpc, int status, void *data, void *private_data) {
  (void)rpc;
  struct waiting *wait = answered(status, data, private_data);
  GETATTR3res *result = data;
  wait->status = result->status;
  if (result->status == NFS3_OK) wait->size = result->GETATTR3res_u.resok.obj_attributes.size;
}

static void on_prepare_write(struct rpc_context *rpc, int status, void *data, void *private_data) {
  (void)rpc;
  struct waiting *wait = answered(status, data, private_data);
  WRITE3res *result = data;
  wait->status = result->status;
  wait->count = result->status == NFS3_OK ? result->WRITE3res_u.resok.count : 0;
}

static void on_sample(struct rpc_context *rpc, int status, void *data, void *private_data) {
  (void)rpc;
  struct waiting *wait = answered(status, data, private_data);
  READ3res *result = data;
  wait->status = result->status;
  wait->right = result->status == NFS3_OK && result->READ3res_u.resok.count == PAGE &&
                pages_are_right(result->READ3res_u.resok.data.data_val, wait->offset, PAGE);
}

static void on_status_only(struct rpc_context *rpc, int status, void *data, void *private_data) {
  (void)rpc;
  struct waiting *wait = answered(status, data, private_data);
  wait->status = *(nfsstat3 *)data; /* every NFSv3 result begins with its status */
}

static void finish(struct waiting *wait) { serve_until(connections, 1, &wait->done, 1); }

static nfsstat3 find(struct handle *parent, const char *name, struct handle *result) {
  struct waiting wait = {.handle = result};
  LOOKUP3args arguments = {{wire(parent), (char *)(uintptr_t)name}};
  rpc_nfs3_lookup_async(connections[0], on_prepare_lookup, &arguments, &wait);
  finish(&wait);
  return wait.status;
}

static void prepare_file(void) {
  if (find(&root, file_name, &file) != NFS3_OK) {
    struct waiting wait = {0};
    CREATE3args arguments = {.where = {wire(&root), (char *)(uintptr_t)file_name}, .how = {.mode = UNCHECKED}};
    arguments.how.createhow3_u.obj_attributes.mode = (set_mode3){1, {0644}};
    rpc_nfs3_create_async(connections[0], on_status_only, &arguments, &wait);
    finish(&wait);
    if (wait.status != NFS3_OK || find(&root, file_name, &file) != NFS3_OK) die("create", "the file cannot be made");
  }
  struct waiting attributes = {0};
  GETATTR3args ask = {wire(&file)};
  rpc_nfs3_getattr_async(connections[0], on_prepare_getattr, &ask, &attributes);
  finish(&attributes);
  if (attributes.status != NFS3_OK) die("getattr", "refused");
  for (uint64_t offset = attributes.size / FILL * FILL; offset < option.file_bytes; offset += FILL) {
    struct waiting wait = {0};
    mark_pages(content, offset, FILL);
    WRITE3args arguments = {.file = wire(&file), .offset = offset, .count = FILL, .stable = FILE_SYNC, .data = {FILL, content}};
    rpc_nfs3_write_async(connections[0], on_prepare_write, &arguments, &wait);
    finish(&wait);
    if (wait.status != NFS3_OK || wait.count != FILL) die("fill", "a 1 MiB write was refused or cut short");
  }
}

static void prepare_folder(void) {
  if (find(&root, folder_name, &folder) == NFS3_OK) return;
  struct waiting wait = {0};
  MKDIR3args arguments = {.where = {wire(&root), (char *)(uintptr_t)folder_name}};
  arguments.attributes.mode = (set_mode3){1, {0755}};
  rpc_nfs3_mkdir_async(connections[0], on_status_only, &arguments, &wait);
  finish(&wait);
  if (find(&root, folder_name, &folder) != NFS3_OK) die("mkdir", "the folder cannot be made");
}

/* Reads a sample of what was written. */
static void check_sample(void) {
  for (int i = 0; i < SAMPLES; i++) {
    struct waiting wait = {.offset = random64() % (option.file_bytes / PAGE) * PAGE};
    READ3args arguments = {wire(&file), wait.offset, PAGE};
    rpc_nfs3_read_async(connections[0], on_sample, &arguments, &wait);
    finish(&wait);
    if (!wait.right) count_error("a page read back is wrong", (int)wait.status);
  }
}

/* ---- the closed loop ---- */

static void submit(struct call *call);

static void record(const struct call *call) {
  if (latency_count == latency_capacity) {
    latency_capacity = latency_capacity == 0 ? 1 << 16 : latency_capacity * 2;
    latencies = realloc(latencies, latency_capacity * sizeof *latencies);
    if (latencies == NULL) die("latencies", "no memory");
  }
  latencies[latency_count++] = (uint32_t)((now() - call->began) * 1e6);
  operations++;
}

static void on_answer(struct rpc_context *rpc, int status, void *data, void *private_data) {
  struct call *call = private_data;
  if (status != RPC_STATUS_SUCCESS) die("call", status == RPC_STATUS_ERROR ? (char *)data : rpc_get_error(rpc));
  nfsstat3 answer = option.operation == OP_NULL ? NFS3_OK : *(nfsstat3 *)data;
  if (answer != NFS3_OK) {
    count_error(operation_names[option.operation], (int)answer);
  } else if (option.operation == OP_READ) {
    READ3resok *result = &((READ3res *)data)->READ3res_u.resok;
    bytes_moved += result->count;
    if (result->count != option.bytes || !pages_are_right(result->data.data_val, call->offset, result->count))
      count_error("read: wrong bytes, count", (int)result->count);
  } else if (option.operation == OP_WRITE) {
    WRITE3resok *result = &((WRITE3res *)data)->WRITE3res_u.resok;
    bytes_moved += result->count;
    if (result->count != option.bytes || result->committed != FILE_SYNC) count_error("write: cut short or not stable", (int)result->count);
  } else if (option.operation == OP_GETATTR) {
    if (((GETATTR3res *)data)->GETATTR3res_u.resok.obj_attributes.size < option.file_bytes) count_error("getattr: wrong size", 0);
  } else if (option.operation == OP_LOOKUP) {
    nfs_fh3 *found = &((LOOKUP3res *)data)->LOOKUP3res_u.resok.object;
    if (found->data.data_len != file.length || memcmp(found->data.data_val, file.bytes, file.length) != 0)
      count_error("lookup: another handle", 0);
  }
  record(call);
  in_flight--;
  submit(call);
}

/* The next call of this slot, unless the time or the names are used up. */
static void submit(struct call *call) {
  int failed;
  int bounded_by_names = option.operation == OP_CREATE || option.operation == OP_REMOVE;
  if (bounded_by_names ? next_name >= option.names : now() >= deadline) return;
  if (bounded_by_names) snprintf(call->name, sizeof call->name, "file-%08ld", next_name++);
  uint64_t blocks = option.file_bytes / option.bytes;
  call->offset = (option.random ? random64() % blocks : next_position++ % blocks) * option.bytes;
  call->began = now();
  switch (option.operation) {
    case OP_NULL:
      failed = rpc_nfs3_null_async(call->rpc, on_answer, call);
      break;
    case OP_GETATTR: {
      GETATTR3args arguments = {wire(&file)};
      failed = rpc_nfs3_getattr_async(call->rpc, on_answer, &arguments, call);
      break;
    }
    case OP_LOOKUP: {
      LOOKUP3args arguments = {{wire(&root), (char *)(uintptr_t)file_name}};
      failed = rpc_nfs3_lookup_async(call->rpc, on_answer, &arguments, call);
      break;
    }
    case OP_READ: {
      READ3args arguments = {wire(&file), call->offset, option.bytes};
      failed = rpc_nfs3_read_async(call->rpc, on_answer, &arguments, call);
      break;
    }
    case OP_WRITE: {
      mark_pages(content, call->offset, option.bytes);
      writes++;
      memcpy(content + sizeof(uint64_t), &writes, sizeof writes); /* so that no two writes are alike */
      WRITE3args arguments = {.file = wire(&file), .offset = call->offset, .count = option.bytes, .stable = FILE_SYNC, .data = {option.bytes, content}};
      failed = rpc_nfs3_write_async(call->rpc, on_answer, &arguments, call);
      break;
    }
    case OP_CREATE: {
      CREATE3args arguments = {.where = {wire(&folder), call->name}, .how = {.mode = GUARDED}};
      arguments.how.createhow3_u.g_obj_attributes.mode = (set_mode3){1, {0644}};
      failed = rpc_nfs3_create_async(call->rpc, on_answer, &arguments, call);
      break;
    }
    default: {
      REMOVE3args arguments = {{wire(&folder), call->name}};
      failed = rpc_nfs3_remove_async(call->rpc, on_answer, &arguments, call);
    }
  }
  if (failed) die("submit", rpc_get_error(call->rpc));
  in_flight++;
}

static int by_value(const void *left, const void *right) {
  uint32_t a = *(const uint32_t *)left, b = *(const uint32_t *)right;
  return a < b ? -1 : a > b;
}

static uint32_t quantile(double part) {
  if (latency_count == 0) return 0;
  size_t index = (size_t)((double)latency_count * part);
  return latencies[index < latency_count ? index : latency_count - 1];
}

static void report(double elapsed) {
  qsort(latencies, latency_count, sizeof *latencies, by_value);
  printf("{\"operation\":\"%s\",\"bytes\":%u,\"depth\":%d,\"connections\":%d,\"random\":%s,\"seconds\":%.3f,\"operations\":%llu,"
         "\"operationsPerSecond\":%.1f,\"bytesPerSecond\":%.0f,\"p50Microseconds\":%u,\"p99Microseconds\":%u,\"maxMicroseconds\":%u,"
         "\"errors\":%llu}\n",
         operation_names[option.operation], option.bytes, option.depth, option.connections, option.random ? "true" : "false", elapsed,
         (unsigned long long)operations, (double)operations / elapsed, (double)bytes_moved / elapsed, quantile(0.5), quantile(0.99),
         quantile(1), (unsigned long long)errors);
}

static void parse(int argc, char **argv) {
  int letter;
  while ((letter = getopt(argc, argv, "h:p:m:e:o:q:c:b:s:t:n:r")) != -1) {
    switch (letter) {
      case 'h': option.host = optarg; break;
      case 'p': option.nfs_port = atoi(optarg); break;
      case 'm': option.mount_port = atoi(optarg); break;
      case 'e': option.export = optarg; break;
      case 'q': option.depth = atoi(optarg); break;
      case 'c': option.connections = atoi(optarg); break;
      case 'b': option.bytes = (uint32_t)atoi(optarg); break;
      case 's': option.file_bytes = (uint64_t)atoll(optarg) << 20; break;
      case 't': option.seconds = atof(optarg); break;
      case 'n': option.names = atol(optarg); break;
      case 'r': option.random = 1; break;
      case 'o': {
        int found = -1;
        for (int i = OP_NULL; i <= OP_REMOVE; i++)
          if (strcmp(optarg, operation_names[i]) == 0) found = i;
        if (found < 0) die("no such operation", optarg);
        option.operation = (enum operation)found;
        break;
      }
      default: exit(1);
    }
  }
  if (option.connections < 1 || option.connections > CONNECTIONS_MAX || option.depth < 1 || option.bytes > FILL ||
      option.bytes % PAGE != 0 || option.file_bytes < option.bytes)
    die("options", "out of range");
}

int main(int argc, char **argv) {
  parse(argc, argv);
  content = calloc(1, FILL);
  struct call *calls = calloc((size_t)option.depth, sizeof *calls);
  if (content == NULL || calls == NULL) die("memory", "none");
  for (uint32_t i = 0; i < FILL; i += 8) {
    uint64_t noise = random64();
    memcpy(content + i, &noise, 8);
  }

  struct rpc_context *mount = connect_to(option.mount_port, MOUNT_PROGRAM, MOUNT_V3);
  struct waiting mounted = {.handle = &root};
  if (rpc_mount3_mnt_async(mount, on_mount, (char *)(uintptr_t)option.export, &mounted) != 0) die("mount", rpc_get_error(mount));
  serve_until(&mount, 1, &mounted.done, 1);
  if (mounted.status != 0) die("mount", "refused");
  rpc_destroy_context(mount);

  for (int i = 0; i < option.connections; i++) connections[i] = connect_to(option.nfs_port, NFS_PROGRAM, NFS_V3);
  if (option.operation == OP_CREATE || option.operation == OP_REMOVE) prepare_folder();
  else if (option.operation != OP_NULL) prepare_file();

  double began = now();
  deadline = began + option.seconds;
  for (int i = 0; i < option.depth; i++) {
    calls[i].rpc = connections[i % option.connections];
    submit(&calls[i]);
  }
  serve_until(connections, option.connections, &in_flight, 0);
  double elapsed = now() - began;
  if (option.operation == OP_WRITE) check_sample();
  report(elapsed);
  return errors == 0 ? 0 : 4;
}
