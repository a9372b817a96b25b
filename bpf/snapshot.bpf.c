// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// Snapshot: every process there is, as a stream of records read from the task iterator.
#include "task.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define MAX_THREADS 4096
#define MAX_CPUS 1024
#define TASK_REPORT_MASK 0x7f

/* One reader at a time, so one scratch. */
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, struct scratch);
} scratches SEC(".maps");

/*
 * Where each CPU's part of per-CPU memory begins. The kernel exports no symbol for it; the two addresses of an
 * element of a per-CPU map, before and after the translation, tell.
 */
struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, __u64);
} per_cpu_probe SEC(".maps");

const volatile __u32 cpu_count = 1; /* possible CPUs, set before loading */
__u64 per_cpu_offset[MAX_CPUS] = {};
volatile __u64 laundry = 0;

/* Through memory: the verifier forbids arithmetic on some pointers, not on numbers. */
static __always_inline __u64 as_number(const void* pointer) {
  laundry = (__u64)pointer;
  return laundry;
}

static long find_offset(__u64 cpu, __u64* base) {
  __u32 zero = 0;
  void* element = bpf_map_lookup_percpu_elem(&per_cpu_probe, &zero, cpu);
  if (!element || cpu >= MAX_CPUS) return 1;
  per_cpu_offset[cpu] = as_number(element) - *base;
  return 0;
}

struct counter_sum {
  __s32* counters;
  __s64 pages;
};

static long add_counter(__u64 cpu, struct counter_sum* sum) {
  __s32 part = 0;
  if (cpu >= MAX_CPUS) return 1;
  bpf_probe_read_kernel(&part, sizeof(part), (void*)sum->counters + per_cpu_offset[cpu]);
  sum->pages += part;
  return 0;
}

/* The same where the parts of one process lie side by side. */
static long add_counters(__u64 cpu, struct counter_sum* sum) {
  __s32 parts[4] = {};
  if (cpu >= MAX_CPUS) return 1;
  bpf_probe_read_kernel(parts, sizeof(parts), (void*)sum->counters + per_cpu_offset[cpu]);
  sum->pages += (__s64)parts[0] + parts[1] + parts[3];
  return 0;
}

/* File, anonymous and shared pages; index 2 is swap. */
static __always_inline __s64 resident_pages(struct mm_struct* mm) {
  if (bpf_core_field_exists(((struct mm_struct___plain_counters*)0)->rss_stat.count)) {
    struct mm_struct___plain_counters* plain = (void*)mm;
    return plain->rss_stat.count[0].counter + plain->rss_stat.count[1].counter + plain->rss_stat.count[3].counter;
  }
  struct counter_sum sum = {};
  sum.pages = mm->rss_stat[0].count + mm->rss_stat[1].count + mm->rss_stat[3].count;
  __s32* first = BPF_CORE_READ(mm, rss_stat[0].counters);
  __s32* second = BPF_CORE_READ(mm, rss_stat[1].counters);
  __s32* last = BPF_CORE_READ(mm, rss_stat[3].counters);
  sum.counters = first;
  if (second - first == 1 && last - first == 3) {
    bpf_loop(cpu_count, add_counters, &sum, 0);
    return sum.pages;
  }
  bpf_loop(cpu_count, add_counter, &sum, 0);
  sum.counters = second;
  bpf_loop(cpu_count, add_counter, &sum, 0);
  sum.counters = last;
  bpf_loop(cpu_count, add_counter, &sum, 0);
  return sum.pages;
}

struct thread_sum {
  struct list_head *at, *head;
  __u64 runtime;
};

static long add_thread(__u64 index, struct thread_sum* sum) {
  struct list_head* at = sum->at;
  if (!at || at == sum->head) {
    sum->at = NULL;
    return 1;
  }
  void* thread = (void*)at - bpf_core_field_offset(struct task_struct, thread_node);
  sum->runtime += READ(task_struct, thread, se.sum_exec_runtime);
  sum->at = READ(list_head, at, next);
  return 0;
}

/* Of the living threads and of those that are gone. */
static __always_inline void fill_cpu(struct daemoneye_record* record, struct task_struct* leader) {
  struct signal_struct* signal = leader->signal;
  record->cpu_ns = signal->sum_sched_runtime;
  if (signal->nr_threads == 1 && signal->thread_head.next == &leader->thread_node) {
    record->cpu_ns += leader->se.sum_exec_runtime;
    record->flags |= DE_HAS_CPU;
    return;
  }
  struct thread_sum threads = {};
  threads.head = (void*)signal + bpf_core_field_offset(struct signal_struct, thread_head);
  threads.at = signal->thread_head.next;
  bpf_loop(MAX_THREADS, add_thread, &threads, 0);
  record->cpu_ns += threads.runtime;
  if (!threads.at || threads.at == threads.head) record->flags |= DE_HAS_CPU;
}

/* The letter of /proc/PID/stat. */
static __always_inline __u8 state_letter(struct task_struct* task) {
  int exit_state = task->exit_state;
  if (exit_state & 0x20) return 'Z';
  if (exit_state & 0x10) return 'X';
  unsigned int state = task->__state;
  if ((state & 0x402) == 0x402) return 'I';
  if (state & 0x1) return 'S';
  if (state & 0x2) return 'D';
  if (state & 0x4) return 'T';
  if (state & 0x8) return 't';
  if (state & TASK_REPORT_MASK) return 'D';
  return 'R';
}

/* As in collect.bpf.c, of another process: a page is brought in from swap if need be. */
static __always_inline __u32 copy_arguments(__u8* to, __u64 start, __u32 kept, struct task_struct* task) {
  if (kept > DE_MAX_ARGUMENTS) return 0;
  if (bpf_copy_from_user_task(to, kept, (const void*)start, task, 0) == 0) return kept;
  __u32 got = 0;
  for (int i = 0; i <= DE_MAX_ARGUMENTS / DE_PAGE && got < kept; i++) {
    __u32 piece = DE_PAGE - ((start + got) & (DE_PAGE - 1));
    if (piece > kept - got) piece = kept - got;
    if (got > DE_MAX_ARGUMENTS || piece > DE_PAGE) break;
    if (bpf_copy_from_user_task(to + got, piece, (const void*)(start + got), task, 0)) break;
    got += piece;
  }
  return got;
}

enum depth { COUNTERS, PLAIN, WITH_ARGUMENTS };

static __always_inline int write_task(struct bpf_iter__task* ctx, enum depth depth) {
  struct task_struct* task = ctx->task;
  __u32 zero = 0;
  if (ctx->meta->seq_num == 0) {
    __u64 base = 0;
    bpf_probe_read_kernel(&base, sizeof(base),
                          (void*)(as_number(&per_cpu_probe) + bpf_core_field_offset(struct bpf_array, pptrs)));
    bpf_loop(cpu_count, find_offset, &base, 0);
  }
  if (!task || task->pid != task->tgid) return 0;
  struct scratch* scratch = bpf_map_lookup_elem(&scratches, &zero);
  if (!scratch) return 0;
  struct daemoneye_record* record = &scratch->record;
  __builtin_memset(record, 0, sizeof(*record));
  fill_record(record, task, depth == COUNTERS ? DE_COUNTERS : DE_TASK);
  record->state = state_letter(task);
  fill_cpu(record, task);

  struct walk walk = {.variable = scratch->variable};
  __u64 exec_id = task->self_exec_id;
  barrier();
  struct mm_struct* mm = task->mm;
  if (mm && !(record->flags & DE_KERNEL_THREAD)) {
    record->resident_pages = resident_pages(mm);
    record->flags |= DE_HAS_MEMORY;
    __u64 start = mm->arg_start, end = mm->arg_end;
    /* Between the two of them being set the process is on its way into another program. */
    if (depth != COUNTERS && start && end >= start) {
      __u64 bytes = end - start;
      record->arguments_bytes = bytes;
      if (depth == WITH_ARGUMENTS) {
        walk.used = copy_arguments(scratch->variable, start, bytes > DE_MAX_ARGUMENTS ? DE_MAX_ARGUMENTS : bytes, task);
        record->lengths[DE_ARGUMENTS] = walk.used;
        if (walk.used || !bytes) record->flags |= DE_HAS_ARGUMENTS;
      }
    }
    struct file* file = mm->exe_file;
    if (file) {
      bool has_folder = fill_executable(record, file);
      if (depth != COUNTERS || !has_folder) append_executable(record, &walk, file);
    }
  }
  if (depth != COUNTERS) {
    fill_namespaces(record, task);
    append_places(scratch, &walk, task);
  }

  /*
   * Nothing here is locked. A process that died or executed another program meanwhile may have been read half from
   * memory that is already someone else's: then its image is left out. One that executed twice may have its memory
   * where it was at first: so the count of programs it has executed must be the same as well.
   */
  barrier();
  if (task->mm != mm || task->self_exec_id != exec_id) {
    record->flags &= DE_KERNEL_THREAD | DE_HAS_TTY;
    walk.used = 0;
    __builtin_memset(record->lengths, 0, sizeof(record->lengths));
    __builtin_memset(record->namespaces, 0, sizeof(record->namespaces));
    record->inode = record->file_bytes = record->mtime_ns = record->ctime_ns = 0;
    record->device = record->links = 0;
    record->arguments_bytes = 0;
  }

  __u64 total = sizeof(*record) + walk.used;
  if (total > DE_MAX_RECORD) return 0;
  record->size = total;
  bpf_seq_write(ctx->meta->seq, scratch, total);
  return 0;
}

SEC("iter.s/task")
int each_task(struct bpf_iter__task* ctx) { return write_task(ctx, WITH_ARGUMENTS); }

/* For kernels whose task iterator may not sleep: without arguments. */
SEC("iter/task")
int each_task_plain(struct bpf_iter__task* ctx) { return write_task(ctx, PLAIN); }

SEC("iter/task")
int each_task_counters(struct bpf_iter__task* ctx) { return write_task(ctx, COUNTERS); }
