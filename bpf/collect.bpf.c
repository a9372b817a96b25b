// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// Real-time source: new processes, executed programs and dead processes, into one ring buffer.
#include "task.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define WAKE_WINDOW_NS 10000000ULL /* 10 ms */
#define WAKES_PER_WINDOW 4
#define WAKE_BYTES (64 * 1024)
#define MAX_CPUS 1024 /* a power of two; on larger machines CPUs share a slot */

struct {
  __uint(type, BPF_MAP_TYPE_RINGBUF);
  __uint(max_entries, 8 * 1024 * 1024);
} events SEC(".maps");

/* One a CPU (set before loading). Tracepoints run without preemption, so nobody else writes a CPU's own. */
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, struct scratch);
} scratches SEC(".maps");

/* Records lost, per CPU. Mapped into the reader: counted without a system call, whatever the reader may still do. */
__u64 losses[MAX_CPUS] = {};

__u64 wake_window_start = 0;
__u32 wakes_in_window = 0;

static __always_inline void count_loss(void) {
  __sync_fetch_and_add(&losses[bpf_get_smp_processor_id() & (MAX_CPUS - 1)], 1);
}

/*
 * A few events in 10 ms wake the reader at once. Under load it is woken when 64 KiB have gathered; what is less it
 * fetches by itself: it looks again for some time after each wake-up (see bpf_source.cc). Races between CPUs over
 * the window cost a wake-up too many, never the first one of a window.
 */
static __always_inline __u64 wake_flags(__u64 size) {
  __u64 now = bpf_ktime_get_ns();
  if (now - wake_window_start >= WAKE_WINDOW_NS) {
    wakes_in_window = 1;
    wake_window_start = now;
    return BPF_RB_FORCE_WAKEUP;
  }
  if (wakes_in_window < WAKES_PER_WINDOW) {
    wakes_in_window++;
    return BPF_RB_FORCE_WAKEUP;
  }
  __u64 pending = bpf_ringbuf_query(&events, BPF_RB_AVAIL_DATA);
  if (pending < WAKE_BYTES && pending + size >= WAKE_BYTES) return BPF_RB_FORCE_WAKEUP;
  return BPF_RB_NO_WAKEUP;
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(on_exec, struct task_struct* task, int old_pid, struct linux_binprm* bprm) {
  __u32 cpu = bpf_get_smp_processor_id();
  struct scratch* scratch = bpf_map_lookup_elem(&scratches, &cpu);
  if (!scratch) {
    count_loss();
    return 0;
  }
  struct daemoneye_record* record = &scratch->record;
  __builtin_memset(record, 0, sizeof(*record));
  /* A thread that is not the leader has become it by now, with the leader's pid and start time. */
  fill_record(record, task, DE_EXEC);
  fill_namespaces(record, task);

  struct walk walk = {.variable = scratch->variable};
  long size = bpf_probe_read_kernel_str(scratch->variable, DE_MAX_FILENAME, BPF_CORE_READ(bprm, filename));
  if (size > 0) {
    record->flags |= DE_HAS_FILENAME;
    walk.used = size - 1;
    record->lengths[DE_FILENAME] = size - 1;
  }

  struct mm_struct* mm = BPF_CORE_READ(task, mm);
  __u64 start = BPF_CORE_READ(mm, arg_start);
  __u64 bytes = BPF_CORE_READ(mm, arg_end) - start;
  record->arguments_bytes = bytes;
  __u32 kept = bytes > DE_MAX_ARGUMENTS ? DE_MAX_ARGUMENTS : bytes;
  __u32 at = walk.used;
  if (at <= DE_MAX_FILENAME && kept <= DE_MAX_ARGUMENTS &&
      bpf_probe_read_user(scratch->variable + at, kept, (const void*)start) == 0) {
    record->flags |= DE_HAS_ARGUMENTS;
    record->lengths[DE_ARGUMENTS] = kept;
    walk.used = at + kept;
  }

  append_executable(record, &walk, BPF_CORE_READ(bprm, file));
  append_places(record, &walk, task);

  __u64 total = sizeof(*record) + walk.used;
  if (total > sizeof(*scratch)) {
    count_loss();
    return 0;
  }
  record->size = total;
  if (bpf_ringbuf_output(&events, scratch, total, wake_flags(total))) count_loss();
  return 0;
}

SEC("tp_btf/sched_process_fork")
int BPF_PROG(on_fork, struct task_struct* parent, struct task_struct* child) {
  if (BPF_CORE_READ(child, pid) != BPF_CORE_READ(child, tgid)) return 0; /* a thread */
  struct daemoneye_record* record = bpf_ringbuf_reserve(&events, sizeof(*record), 0);
  if (!record) {
    count_loss();
    return 0;
  }
  __builtin_memset(record, 0, sizeof(*record));
  fill_record(record, child, DE_FORK);
  bpf_ringbuf_submit(record, wake_flags(0));
  return 0;
}

SEC("tp_btf/sched_process_exit")
int BPF_PROG(on_exit, struct task_struct* task) {
  bool group_dead;
  if (bpf_core_field_exists(struct trace_event_raw_sched_process_exit, group_dead)) {
    group_dead = ctx[1];
  } else {
    /* Two last threads that die at once may both see this; the second record says the same again. */
    group_dead = BPF_CORE_READ(task, signal, live.counter) == 0;
  }
  if (!group_dead) return 0;
  struct daemoneye_record* record = bpf_ringbuf_reserve(&events, sizeof(*record), 0);
  if (!record) {
    count_loss();
    return 0;
  }
  __builtin_memset(record, 0, sizeof(*record));
  struct task_struct* leader = BPF_CORE_READ(task, group_leader);
  fill_record(record, leader, DE_EXIT);
  /* What the parent will be told by wait(2). */
  struct signal_struct* signal = BPF_CORE_READ(task, signal);
  record->exit_status = BPF_CORE_READ(signal, flags) & SIGNAL_GROUP_EXIT ? BPF_CORE_READ(signal, group_exit_code)
                                                                         : BPF_CORE_READ(leader, exit_code);
  bpf_ringbuf_submit(record, wake_flags(0));
  return 0;
}
