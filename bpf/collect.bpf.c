// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// Real-time source: new processes, executed programs and dead processes, into one ring buffer.
#include "task.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

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

/* Set before loading: so much in the ring wakes the reader whatever else. */
const volatile __u64 wake_bytes = 64 * 1024;

/* Set before loading: whether a fork is worth a wake-up. It is not while nothing is told of it. */
const volatile bool forks_wake = true;

/* The reader looks by itself, or was woken to do so, and needs no wake-up. It takes this back when it rests. */
__u32 reader_comes = 0;

static __always_inline void count_loss(void) {
  __sync_fetch_and_add(&losses[bpf_get_smp_processor_id() & (MAX_CPUS - 1)], 1);
}

/*
 * The first event of a quiet time wakes the reader at once: that is an interrupt and a switch, and on a virtual machine
 * it costs as much as dozens of events do. What follows is found by the looks that the reader takes by itself, until
 * one of them finds nothing (see bpf_source.cc). CPUs that race for the first one wake it twice, never not at all.
 */
static __always_inline __u64 wake_flags(__u64 size, bool wakes) {
  if (wakes && !reader_comes) {
    reader_comes = 1;
    return BPF_RB_FORCE_WAKEUP;
  }
  __u64 pending = bpf_ringbuf_query(&events, BPF_RB_AVAIL_DATA);
  if (pending < wake_bytes && pending + size >= wake_bytes) return BPF_RB_FORCE_WAKEUP;
  return BPF_RB_NO_WAKEUP;
}

/*
 * One read is enough unless a page has been taken away meanwhile; then the pages before it are kept. What goes beyond
 * the bound or that page is missing: the true length tells.
 */
static __always_inline __u32 append_arguments(struct walk* walk, __u64 start, __u32 kept) {
  __u32 at = walk->used;
  if (at > DE_MAX_FILENAME || kept > DE_MAX_ARGUMENTS) return 0;
  if (bpf_probe_read_user(walk->variable + at, kept, (const void*)start) == 0) {
    walk->used = at + kept;
    return kept;
  }
  __u32 got = 0;
  for (int i = 0; i <= DE_MAX_ARGUMENTS / DE_PAGE && got < kept; i++) {
    __u32 piece = DE_PAGE - ((start + got) & (DE_PAGE - 1));
    if (piece > kept - got) piece = kept - got;
    __u32 to = at + got;
    if (to > DE_MAX_FILENAME + DE_MAX_ARGUMENTS || piece > DE_PAGE) break;
    if (bpf_probe_read_user(walk->variable + to, piece, (const void*)(start + got))) break;
    got += piece;
  }
  walk->used = at + got;
  return got;
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
  long size = bpf_probe_read_kernel_str(scratch->variable, DE_MAX_FILENAME, bprm->filename);
  if (size > 0) {
    record->flags |= DE_HAS_FILENAME;
    walk.used = size - 1;
    record->lengths[DE_FILENAME] = size - 1;
  }

  struct mm_struct* mm = task->mm;
  __u64 start = mm->arg_start;
  __u64 bytes = mm->arg_end - start;
  record->arguments_bytes = bytes;
  __u32 got = append_arguments(&walk, start, bytes > DE_MAX_ARGUMENTS ? DE_MAX_ARGUMENTS : bytes);
  record->lengths[DE_ARGUMENTS] = got;
  if (got || !bytes) record->flags |= DE_HAS_ARGUMENTS;

  fill_executable(record, bprm->file);
  append_executable(record, &walk, bprm->file);
  append_places(scratch, &walk, task);

  __u64 total = sizeof(*record) + walk.used;
  if (total > DE_MAX_RECORD) {
    count_loss();
    return 0;
  }
  record->size = total;
  if (bpf_ringbuf_output(&events, scratch, total, wake_flags(total, true))) count_loss();
  return 0;
}

SEC("tp_btf/sched_process_fork")
int BPF_PROG(on_fork, struct task_struct* parent, struct task_struct* child) {
  if (child->pid != child->tgid) return 0; /* a thread */
  struct daemoneye_record* record = bpf_ringbuf_reserve(&events, sizeof(*record), 0);
  if (!record) {
    count_loss();
    return 0;
  }
  __builtin_memset(record, 0, sizeof(*record));
  fill_record(record, child, DE_FORK);
  bpf_ringbuf_submit(record, wake_flags(sizeof(*record), forks_wake));
  return 0;
}

SEC("tp_btf/sched_process_exit")
int BPF_PROG(on_exit, struct task_struct* task) {
  bool group_dead;
  struct signal_struct* signal = task->signal;
  if (bpf_core_field_exists(struct trace_event_raw_sched_process_exit, group_dead)) {
    group_dead = ctx[1];
  } else {
    /* Two last threads that die at once may both see this; the second record says the same again. */
    group_dead = signal->live.counter == 0;
  }
  if (!group_dead) return 0;
  struct daemoneye_record* record = bpf_ringbuf_reserve(&events, sizeof(*record), 0);
  if (!record) {
    count_loss();
    return 0;
  }
  __builtin_memset(record, 0, sizeof(*record));
  struct task_struct* leader = task->group_leader;
  fill_record(record, leader, DE_EXIT);
  /* What the parent will be told by wait(2). */
  record->exit_status = signal->flags & SIGNAL_GROUP_EXIT ? signal->group_exit_code : leader->exit_code;
  bpf_ringbuf_submit(record, wake_flags(sizeof(*record), true));
  return 0;
}
