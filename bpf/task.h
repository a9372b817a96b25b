/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What can be read of a task, for the exec programs and for the iterator alike. */
#pragma once

// clang-format off: the kernel's types come first
#include "vmlinux.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
// clang-format on

#include "sensor/linux/record_layout.h"

#define PF_KTHREAD 0x00200000
#define PIDTYPE_SID 3
#define SIGNAL_GROUP_EXIT 4
/* Since 6.13 the kernel keeps a mark of its own in the nanoseconds of a file's ctime. */
#define CTIME_QUERIED (1U << 31)
/* As many steps as a path of DE_MAX_PATH bytes can have components, and some mounts on the way. */
#define MAX_WALK_STEPS (DE_MAX_PATH / 2 + 64)
#define MAX_HIERARCHIES 16

/*
 * The tracepoints and the iterator hand typed pointers over, and what is reached from them by plain loads stays typed:
 * a load costs next to nothing, and where the pointer is wrong it gives 0. A type gets lost where a pointer is to one
 * member of something larger. There bpf_rdonly_cast (since 6.2) gives it back; without it such reads are calls.
 */
extern void* bpf_rdonly_cast(const void* pointer, __u32 type) __ksym __weak;
const volatile bool can_cast = false; /* set before loading */

#define AS(type, pointer) ((struct type*)bpf_rdonly_cast((const void*)(pointer), bpf_core_type_id_kernel(struct type)))
#define READ(type, pointer, field) (can_cast ? AS(type, pointer)->field : BPF_CORE_READ((struct type*)(pointer), field))

/* The path of the cgroup that was last asked for. */
struct cgroup_path {
  __u64 id;         /* of its kernfs node: never given twice; 0: nothing is kept */
  const void* name; /* changes when it is renamed */
  __u32 bytes, cut;
  __u8 path[DE_MAX_CGROUP];
};

/* A record being put together. The slack lets the verifier see that a last component cannot overrun. */
struct scratch {
  struct daemoneye_record record;
  __u8 variable[DE_MAX_VARIABLE + DE_MAX_NAME];
  struct cgroup_path cgroup;
};

struct walk {
  __u8* variable;
  __u32 used; /* of `variable` */
  __u32 limit;
  union {
    struct dentry* dentry;
    struct kernfs_node* node;
  };
  struct vfsmount* mount;
  bool cut, pseudo;
};

/* Appends one component; false when it has to stop. */
static __always_inline bool append_name(struct walk* walk, const void* name) {
  __u32 at = walk->used;
  if (at > walk->limit || at > DE_MAX_VARIABLE) {
    walk->cut = true;
    return false;
  }
  long size = bpf_probe_read_kernel_str(walk->variable + at, DE_MAX_NAME, name);
  if (size <= 0) {
    walk->cut = true;
    return false;
  }
  walk->used = at + size;
  return true;
}

static long path_step(__u64 step, struct walk* walk) {
  struct dentry* dentry = walk->dentry;
  struct vfsmount* vfsmount = walk->mount;
  if (dentry == READ(vfsmount, vfsmount, mnt_root)) {
    void* mount = (void*)vfsmount - bpf_core_field_offset(struct mount, mnt);
    struct mount* parent = READ(mount, mount, mnt_parent);
    if (parent == mount || !parent) {
      walk->dentry = NULL; /* the root of the mount namespace, or a detached tree */
      return 1;
    }
    walk->dentry = READ(mount, mount, mnt_mountpoint);
    walk->mount = (void*)parent + bpf_core_field_offset(struct mount, mnt);
    return 0;
  }
  if (!append_name(walk, READ(dentry, dentry, d_name.name))) return 1;
  struct dentry* parent = READ(dentry, dentry, d_parent);
  if (parent == dentry || !parent) {
    walk->pseudo = true;
    walk->dentry = NULL;
    return 1;
  }
  walk->dentry = parent;
  return 0;
}

static long kernfs_step(__u64 step, struct walk* walk) {
  struct kernfs_node *node = walk->node, *parent;
  if (bpf_core_field_exists(node->__parent)) {
    parent = BPF_CORE_READ(node, __parent);
  } else {
    parent = BPF_CORE_READ((struct kernfs_node___before_6_15*)node, parent);
  }
  if (!parent) {
    walk->node = NULL;
    return 1;
  }
  if (!append_name(walk, BPF_CORE_READ(node, name))) return 1;
  walk->node = parent;
  return 0;
}

/* Returns what it appended, in bytes, and leaves `used` behind it. */
static __always_inline __u32 append_path(struct walk* walk, struct dentry* dentry, struct vfsmount* mount) {
  __u32 before = walk->used;
  walk->limit = before + DE_MAX_PATH - DE_MAX_NAME;
  walk->dentry = dentry;
  walk->mount = mount;
  walk->cut = walk->pseudo = false;
  bpf_loop(MAX_WALK_STEPS, path_step, walk, 0);
  if (walk->dentry) walk->cut = true;
  return walk->used - before;
}

static __always_inline struct cgroup* beyond_root(struct cgroup* cgroup) {
  return cgroup && READ(cgroup, cgroup, level) > 0 ? cgroup : NULL;
}

/* The same choice as choose_cgroup() makes from /proc: v2, then named systemd, memory, pids; the first below its root.
 */
static __always_inline struct kernfs_node* chosen_cgroup(struct task_struct* task) {
  struct css_set* set = task->cgroups;
  struct cgroup* unified = set->dfl_cgrp;
  if (beyond_root(unified)) return unified->kn;
  void* head = (void*)set + bpf_core_field_offset(struct css_set, cgrp_links);
  void* at = set->cgrp_links.next;
  for (int i = 0; i < MAX_HIERARCHIES && at && at != head; i++) {
    void* link = at - bpf_core_field_offset(struct cgrp_cset_link, cgrp_link);
    struct cgroup* cgroup = READ(cgrp_cset_link, link, cgrp);
    __u64 name = 0; /* what is longer differs in the eighth byte */
    bpf_probe_read_kernel(&name, sizeof(name),
                          (void*)READ(cgroup, cgroup, root) + bpf_core_field_offset(struct cgroup_root, name));
    if (name == *(const __u64*)"systemd") {
      if (beyond_root(cgroup)) return READ(cgroup, cgroup, kn);
      break;
    }
    at = READ(cgrp_cset_link, link, cgrp_link.next);
  }
  if (bpf_core_enum_value_exists(enum cgroup_subsys_id, memory_cgrp_id)) {
    struct cgroup* memory =
        BPF_CORE_READ(set, subsys[bpf_core_enum_value(enum cgroup_subsys_id, memory_cgrp_id)], cgroup);
    if (beyond_root(memory)) return READ(cgroup, memory, kn);
  }
  if (bpf_core_enum_value_exists(enum cgroup_subsys_id, pids_cgrp_id)) {
    struct cgroup* pids = BPF_CORE_READ(set, subsys[bpf_core_enum_value(enum cgroup_subsys_id, pids_cgrp_id)], cgroup);
    if (beyond_root(pids)) return READ(cgroup, pids, kn);
  }
  return unified->kn;
}

/* Neighbours in time are mostly neighbours in a cgroup, so its path is walked only when it is another than before. */
static __always_inline void append_cgroup(struct scratch* scratch, struct walk* walk, struct task_struct* task) {
  struct kernfs_node* node = chosen_cgroup(task);
  struct daemoneye_record* record = &scratch->record;
  struct cgroup_path* kept = &scratch->cgroup;
  __u64 id = READ(kernfs_node, node, id);
  const void* name = READ(kernfs_node, node, name);
  __u32 at = walk->used;
  record->flags |= DE_HAS_CGROUP;
  if (!id || kept->id != id || kept->name != name) {
    walk->limit = at + DE_MAX_CGROUP - DE_MAX_NAME;
    walk->node = node;
    walk->cut = false;
    bpf_loop(MAX_WALK_STEPS, kernfs_step, walk, 0);
    if (walk->node) walk->cut = true;
    record->lengths[DE_CGROUP] = walk->used - at;
    if (walk->cut) record->flags |= DE_CGROUP_CUT;
    __u32 bytes = walk->used - at;
    if (at > DE_MAX_VARIABLE - DE_MAX_CGROUP || bytes > sizeof(kept->path)) return;
    kept->id = bpf_probe_read_kernel(kept->path, bytes, walk->variable + at) == 0 ? id : 0;
    kept->name = name;
    kept->bytes = bytes;
    kept->cut = walk->cut;
    return;
  }
  __u32 bytes = kept->bytes;
  if (at > DE_MAX_VARIABLE - DE_MAX_CGROUP || bytes > sizeof(kept->path)) return;
  if (bpf_probe_read_kernel(walk->variable + at, bytes, kept->path)) return;
  walk->used = at + bytes;
  record->lengths[DE_CGROUP] = bytes;
  if (kept->cut) record->flags |= DE_CGROUP_CUT;
}

/* The fixed part, but for what belongs to one kind of record. `leader` leads its thread group. */
static __always_inline void fill_record(struct daemoneye_record* record, struct task_struct* leader, __u8 kind) {
  record->magic = DE_RECORD_MAGIC;
  record->kind = kind;
  record->size = sizeof(*record);
  record->boot_ns = bpf_ktime_get_boot_ns();
  record->pid = leader->tgid;
  record->start_ns = leader->start_boottime;
  if (leader->flags & PF_KTHREAD) record->flags |= DE_KERNEL_THREAD;

  struct task_struct* parent = leader->real_parent;
  record->ppid = parent->tgid;
  record->parent_start_ns = parent->group_leader->start_boottime;

  const struct cred* cred = leader->cred;
  record->uid = cred->uid.val;
  record->gid = cred->gid.val;
  record->euid = cred->euid.val;
  record->egid = cred->egid.val;
  record->loginuid = ~0u;
  if (bpf_core_field_exists(leader->loginuid)) record->loginuid = leader->loginuid.val;
  struct signal_struct* signal = leader->signal;
  record->session = signal->pids[PIDTYPE_SID]->numbers[0].nr;

  __builtin_memcpy(record->comm, leader->comm, sizeof(record->comm));
  struct tty_struct* tty = signal->tty;
  if (tty) {
    BPF_CORE_READ_STR_INTO(&record->tty, tty, name);
    record->flags |= DE_HAS_TTY;
  }
}

/* A dead task has given its namespaces up, but for those of its pid and its credentials. */
static __always_inline void fill_namespaces(struct daemoneye_record* record, struct task_struct* task) {
  struct nsproxy* proxy = task->nsproxy;
  if (!proxy) return;
  record->flags |= DE_HAS_NAMESPACES;
  record->namespaces[DE_NS_MNT] = proxy->mnt_ns->ns.inum;
  record->namespaces[DE_NS_NET] = proxy->net_ns->ns.inum;
  record->namespaces[DE_NS_UTS] = proxy->uts_ns->ns.inum;
  record->namespaces[DE_NS_IPC] = proxy->ipc_ns->ns.inum;
  record->namespaces[DE_NS_CGROUP] = proxy->cgroup_ns->ns.inum;
  record->namespaces[DE_NS_USER] = task->cred->user_ns->ns.inum;
  struct pid* pid = task->thread_pid;
  __u64 level = pid->level;
  if (level == 0) {
    record->namespaces[DE_NS_PID] = pid->numbers[0].ns->ns.inum;
  } else {
    struct upid* innermost =
        (void*)pid + bpf_core_field_offset(struct pid, numbers) + level * bpf_core_type_size(struct upid);
    record->namespaces[DE_NS_PID] = BPF_CORE_READ(innermost, ns, ns.inum);
  }
}

static __always_inline __s64 nanoseconds(__s64 seconds, __u32 rest) {
  return seconds * 1000000000 + (rest & ~CTIME_QUERIED);
}

static __always_inline void fill_file(struct daemoneye_record* record, struct inode* inode) {
  record->inode = inode->i_ino;
  record->device = inode->i_sb->s_dev;
  record->links = inode->i_nlink;
  record->file_bytes = inode->i_size;
  struct inode___6_7* since_6_7 = (void*)inode;
  struct inode___6_6* since_6_6 = (void*)inode;
  struct inode___before_6_6* before = (void*)inode;
  if (bpf_core_field_exists(inode->i_mtime_sec)) {
    record->mtime_ns = nanoseconds(inode->i_mtime_sec, inode->i_mtime_nsec);
  } else if (bpf_core_field_exists(since_6_7->__i_mtime)) {
    record->mtime_ns = nanoseconds(since_6_7->__i_mtime.tv_sec, since_6_7->__i_mtime.tv_nsec);
  } else {
    record->mtime_ns = nanoseconds(before->i_mtime.tv_sec, before->i_mtime.tv_nsec);
  }
  if (bpf_core_field_exists(inode->i_ctime_sec)) {
    record->ctime_ns = nanoseconds(inode->i_ctime_sec, inode->i_ctime_nsec);
  } else if (bpf_core_field_exists(since_6_6->__i_ctime)) {
    record->ctime_ns = nanoseconds(since_6_6->__i_ctime.tv_sec, since_6_6->__i_ctime.tv_nsec);
  } else {
    record->ctime_ns = nanoseconds(before->i_ctime.tv_sec, before->i_ctime.tv_nsec);
  }
}

/* The identity of the executable; whether that file ever had a folder. */
static __always_inline bool fill_executable(struct daemoneye_record* record, struct file* file) {
  fill_file(record, file->f_inode);
  struct dentry* dentry = file->f_path.dentry;
  record->flags |= DE_HAS_FILE;
  if (!dentry->d_hash.pprev) record->flags |= DE_UNLINKED;
  return dentry->d_parent != dentry || file->f_path.mnt->mnt_root == dentry;
}

static __always_inline void append_executable(struct daemoneye_record* record, struct walk* walk, struct file* file) {
  record->lengths[DE_EXECUTABLE] = append_path(walk, file->f_path.dentry, file->f_path.mnt);
  record->flags |= DE_HAS_EXECUTABLE;
  if (walk->cut) record->flags |= DE_EXECUTABLE_CUT;
  if (walk->pseudo) record->flags |= DE_PSEUDO_FILE;
}

/* A dead task has given its fs up. */
static __always_inline void append_places(struct scratch* scratch, struct walk* walk, struct task_struct* task) {
  struct daemoneye_record* record = &scratch->record;
  struct fs_struct* fs = task->fs;
  if (fs) {
    record->lengths[DE_CWD] = append_path(walk, fs->pwd.dentry, fs->pwd.mnt);
    record->flags |= DE_HAS_CWD;
    if (walk->cut) record->flags |= DE_CWD_CUT;
  }
  append_cgroup(scratch, walk, task);
}
