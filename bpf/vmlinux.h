/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The kernel's types and fields that our programs use, and no others. libbpf relocates every access to the running
 * kernel's own layout (CO-RE), so neither offsets nor missing neighbours matter here. A name with ___suffix is the
 * same type as other kernel versions have it.
 */
#pragma once

typedef unsigned char __u8;
typedef unsigned short __u16;
typedef unsigned int __u32;
typedef unsigned long long __u64;
typedef signed char __s8;
typedef short __s16;
typedef int __s32;
typedef long long __s64;
typedef __u16 __be16;
typedef __u32 __be32;
typedef __u32 __wsum;
typedef _Bool bool;

enum { false, true };

#define NULL ((void*)0)

enum bpf_map_type {
  BPF_MAP_TYPE_ARRAY = 2,
  BPF_MAP_TYPE_PERCPU_ARRAY = 6,
  BPF_MAP_TYPE_RINGBUF = 27,
};

enum {
  BPF_RB_NO_WAKEUP = 1,
  BPF_RB_FORCE_WAKEUP = 2,
};

enum { BPF_RB_AVAIL_DATA = 0 };

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

typedef struct {
  int counter;
} atomic_t;

typedef struct {
  __s64 counter;
} atomic64_t;

typedef struct {
  unsigned int val;
} kuid_t;

typedef struct {
  unsigned int val;
} kgid_t;

struct list_head {
  struct list_head *next, *prev;
};

struct hlist_bl_node {
  struct hlist_bl_node *next, **pprev;
};

struct qstr {
  __u32 len;
  const unsigned char* name;
};

struct super_block {
  __u32 s_dev;
};

/* Since 6.11 the times of a file are numbers of their own. */
struct inode {
  struct super_block* i_sb;
  unsigned long i_ino;
  unsigned int i_nlink;
  __s64 i_size;
  __s64 i_mtime_sec, i_ctime_sec;
  __u32 i_mtime_nsec, i_ctime_nsec;
};

struct timespec64 {
  __s64 tv_sec;
  long tv_nsec;
};

struct inode___6_7 {
  struct timespec64 __i_mtime, __i_ctime;
};

struct inode___6_6 {
  struct timespec64 i_mtime, __i_ctime;
};

struct inode___before_6_6 {
  struct timespec64 i_mtime, i_ctime;
};

struct dentry {
  struct hlist_bl_node d_hash;
  struct dentry* d_parent;
  struct qstr d_name;
  struct inode* d_inode;
};

struct vfsmount {
  struct dentry* mnt_root;
};

struct mount {
  struct mount* mnt_parent;
  struct dentry* mnt_mountpoint;
  struct vfsmount mnt;
};

struct path {
  struct vfsmount* mnt;
  struct dentry* dentry;
};

struct file {
  struct path f_path;
  struct inode* f_inode;
};

struct fs_struct {
  struct path pwd;
};

struct ns_common {
  unsigned int inum;
};

struct mnt_namespace {
  struct ns_common ns;
};

struct pid_namespace {
  struct ns_common ns;
};

struct net {
  struct ns_common ns;
};

struct user_namespace {
  struct ns_common ns;
};

struct uts_namespace {
  struct ns_common ns;
};

struct ipc_namespace {
  struct ns_common ns;
};

struct cgroup_namespace {
  struct ns_common ns;
};

struct nsproxy {
  struct uts_namespace* uts_ns;
  struct ipc_namespace* ipc_ns;
  struct mnt_namespace* mnt_ns;
  struct net* net_ns;
  struct cgroup_namespace* cgroup_ns;
};

struct cred {
  kuid_t uid, euid;
  kgid_t gid, egid;
  struct user_namespace* user_ns;
};

struct tty_struct {
  char name[64];
};

struct upid {
  int nr;
  struct pid_namespace* ns;
};

struct pid {
  unsigned int level; /* how deep its innermost namespace lies: the last of `numbers` */
  struct upid numbers[1];
};

struct signal_struct {
  atomic_t live;
  int nr_threads;
  struct list_head thread_head;
  int group_exit_code;
  unsigned int flags;
  struct pid* pids[4];
  struct tty_struct* tty;
  unsigned long long sum_sched_runtime;
};

struct percpu_counter {
  __s64 count;
  __s32* counters;
};

struct mm_struct {
  unsigned long arg_start, arg_end;
  struct percpu_counter rss_stat[4];
  struct file* exe_file;
};

/* Up to 6.1 the counters of a process were plain. */
struct mm_rss_stat {
  atomic64_t count[4];
};

struct mm_struct___plain_counters {
  struct mm_rss_stat rss_stat;
};

/* Since 6.15 the parent is __parent. */
struct kernfs_node {
  struct kernfs_node* __parent;
  const char* name;
  __u64 id;
};

struct kernfs_node___before_6_15 {
  struct kernfs_node* parent;
};

struct cgroup_root {
  char name[64];
};

struct cgroup {
  int level;
  struct kernfs_node* kn;
  struct cgroup_root* root;
};

struct cgroup_subsys_state {
  struct cgroup* cgroup;
};

struct css_set {
  struct cgroup_subsys_state* subsys[16];
  struct cgroup* dfl_cgrp;
  struct list_head cgrp_links;
};

struct cgrp_cset_link {
  struct cgroup* cgrp;
  struct list_head cgrp_link;
};

enum cgroup_subsys_id { memory_cgrp_id = 4, pids_cgrp_id = 11 };

struct sched_entity {
  __u64 sum_exec_runtime;
};

struct task_struct {
  unsigned int __state;
  unsigned int flags;
  struct sched_entity se;
  struct mm_struct* mm;
  int exit_state;
  int exit_code;
  int pid, tgid;
  struct task_struct* real_parent;
  struct task_struct* group_leader;
  struct pid* thread_pid;
  struct list_head thread_node;
  __u64 start_boottime;
  __u64 self_exec_id;
  const struct cred* cred;
  char comm[16];
  struct fs_struct* fs;
  struct nsproxy* nsproxy;
  struct signal_struct* signal;
  kuid_t loginuid;
  struct css_set* cgroups;
};

struct linux_binprm {
  struct file* file;
  const char* filename;
};

/* Since 6.16 the exit tracepoint says whether the whole thread group is dead. */
struct trace_event_raw_sched_process_exit {
  bool group_dead;
};

struct seq_file;

struct bpf_iter_meta {
  struct seq_file* seq;
  __u64 seq_num;
};

struct bpf_iter__task {
  struct bpf_iter_meta* meta;
  struct task_struct* task;
};

struct bpf_map;

struct bpf_array {
  void* pptrs[0];
};

#pragma clang attribute pop
