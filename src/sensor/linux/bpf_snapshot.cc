// The snapshot by task iterator (bpf/snapshot.bpf.c), reconciled with /proc.
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>

#include "base/unique_fd.h"
#include "sensor/linux/bpf_log.h"
#include "sensor/linux/bpf_options.h"
#include "sensor/linux/procfs_reader.h"
#include "sensor/linux/record.h"
#include "sensor/source.h"
#include "snapshot.skel.h"

namespace daemoneye::sensor {
namespace {

constexpr std::size_t kReadBuffer = 128 * 1024;
// After so long /proc is listed whatever the number of processes says.
constexpr std::chrono::minutes kListAge{5};
static_assert(kReadBuffer > 2 * DE_MAX_RECORD);

struct CloseSkeleton {
  void operator()(snapshot_bpf* skeleton) const { snapshot_bpf__destroy(skeleton); }
};
using Skeleton = std::unique_ptr<snapshot_bpf, CloseSkeleton>;

template <class T>
void complete(std::optional<T>& field, std::optional<T>& from) {
  if (!field && from) field = std::move(from);
}

class BpfSnapshot final : public Snapshot {
 public:
  BpfSnapshot(Skeleton skeleton, bool sleepable, ProcReader reader)
      : skeleton_(std::move(skeleton)), sleepable_(sleepable), reader_(std::move(reader)) {}
  [[nodiscard]] std::string_view name() const override { return "bpf_iter"; }

  Result<SnapshotResult> scan(Depth depth, const std::function<void(const RawProcess&)>& each) override {
    SnapshotResult result;
    seen_.clear();
    const auto& links = skeleton_->links;
    DE_CHECK(iterate(depth == Depth::counters ? links.each_task_counters
                     : sleepable_             ? links.each_task
                                              : links.each_task_plain,
                     each, result));
    DE_CHECK(reconcile(each, result));
    return result;
  }

 private:
  // Listing /proc costs nearly as much as the counters of all processes do. But the kernel counts its processes, and
  // /proc tells by its links: as long as that is what was found plus what it was more by after the last listing, only
  // the processes that the iterator hid then are looked for. Who comes or goes meanwhile leads to a listing too many.
  Result<void> reconcile(const std::function<void(const RawProcess&)>& each, SnapshotResult& result) {
    std::ranges::sort(seen_);
    const auto is_seen = [&](event::Pid pid) { return std::ranges::binary_search(seen_, pid); };
    std::erase_if(hidden_, [&](event::Pid pid) { return is_seen(pid) || !read_from_proc(pid, each, result); });
    struct stat proc{};
    const bool counted = ::stat("/proc", &proc) == 0;
    const auto more = [&] {
      return static_cast<std::int64_t>(proc.st_nlink) - std::ssize(seen_) - std::ssize(hidden_);
    };
    const auto now = std::chrono::steady_clock::now();
    if (counted && listed_at_ && now - *listed_at_ < kListAge && more() == more_links_) return {};

    DE_CHECK(reader_.list(listed_));
    const auto known = hidden_;
    for (const auto pid : listed_) {
      if (is_seen(pid) || std::ranges::find(known, pid) != known.end()) continue;
      if (read_from_proc(pid, each, result)) hidden_.push_back(pid);
    }
    listed_at_ = now;
    more_links_ = more();
    return {};
  }

  Result<void> iterate(const bpf_link* link, const std::function<void(const RawProcess&)>& each,
                       SnapshotResult& result) {
    const UniqueFd stream(::bpf_iter_create(::bpf_link__fd(link)));
    if (!stream) return fail_errno("starting the eBPF task iterator", errno);
    buffer_.resize(kReadBuffer);
    std::size_t used = 0;
    for (;;) {
      const auto got = ::read(stream.get(), buffer_.data() + used, buffer_.size() - used);
      if (got < 0 && (errno == EINTR || errno == EAGAIN)) continue;
      if (got < 0) return fail_errno("reading the eBPF task iterator", errno);
      if (got == 0) break;
      used += static_cast<std::size_t>(got);
      std::string_view rest(buffer_.data(), used);
      for (;;) {
        const auto size = record_size(rest);
        if (!size || (*size != 0 && *size > rest.size())) break;  // the rest of it comes with the next read
        if (*size == 0 || !decode_record(rest.substr(0, *size), process_)) {
          return fail(Errc::corrupt, "the eBPF task iterator gave something that is not a record");
        }
        rest.remove_prefix(*size);
        seen_.push_back(process_.pid);
        hand_over(each, result);
      }
      std::copy(rest.begin(), rest.end(), buffer_.begin());
      used = rest.size();
    }
    if (used != 0) return fail(Errc::corrupt, "the eBPF task iterator ended within a record");
    return {};
  }

  void hand_over(const std::function<void(const RawProcess&)>& each, SnapshotResult& result) {
    // A program that was replaced while it was read, or arguments that could not be: /proc has them.
    const bool has_image = !process_.kernel_thread && process_.status != event::ProcessStatus::zombie;
    if (has_image && (process_.counters_only ? process_.file.inode == 0 : !process_.arguments)) {
      auto from_iterator = std::move(process_);
      read_from_proc(from_iterator.pid, each, result, &from_iterator);
      return;
    }
    ++result.processes;
    each(process_);
  }

  // Whether it still lives. What the iterator saw (`known`) is handed over whatever /proc says: that may hide it
  // (hidepid), and who takes his own arguments away must not be out of sight with them.
  bool read_from_proc(event::Pid pid, const std::function<void(const RawProcess&)>& each, SnapshotResult& result,
                      RawProcess* known = nullptr) {
    const auto outcome = reader_.read(pid, process_);
    const bool found = outcome == ProcReader::Outcome::complete || outcome == ProcReader::Outcome::forbidden;
    if (!found && known != nullptr) {
      process_ = std::move(*known);
      ++result.forbidden;
      ++result.processes;
      each(process_);
      return true;
    }
    if (outcome == ProcReader::Outcome::vanished) {
      ++result.vanished;
      return false;
    }
    if (!found) {
      ++result.errors;
      result.unreadable.push_back(pid);
      return true;
    }
    if (outcome == ProcReader::Outcome::forbidden) ++result.forbidden;
    if (known != nullptr && known->start_ticks == process_.start_ticks) {
      process_.parent_start_ticks = process_.ppid == known->ppid ? known->parent_start_ticks : 0;
      if (!process_.executable_path && known->executable_path) {
        process_.executable_path = std::move(known->executable_path);
        process_.executable_state = known->executable_state;
      }
      const auto &here = process_.file, &there = known->file;
      if (here.inode == 0 || (here.inode == there.inode && here.device == there.device)) {
        process_.file = known->file;
        process_.links = known->links;
      }
      complete(process_.namespaces, known->namespaces);
      complete(process_.cwd, known->cwd);
      complete(process_.loginuid, known->loginuid);
    }
    ++result.processes;
    each(process_);
    return true;
  }

  Skeleton skeleton_;
  bool sleepable_;
  ProcReader reader_;
  std::string buffer_;
  std::vector<event::Pid> seen_, listed_, hidden_;
  std::optional<std::chrono::steady_clock::time_point> listed_at_;
  std::int64_t more_links_ = 0;  // of /proc than there are processes
  RawProcess process_;
};

// The sleepable iterator reads arguments itself; where it does not load, the plain one leaves them to /proc.
Result<Skeleton> load(bool sleepable, bool casts) {
  const BpfLog log;
  Skeleton skeleton(snapshot_bpf__open());
  if (!skeleton) return log.fail("opening the eBPF iterator", errno);
  const int cpus = ::libbpf_num_possible_cpus();
  if (cpus < 1) return log.fail("counting CPUs", -cpus);
  skeleton->rodata->can_cast = casts;
  skeleton->rodata->cpu_count = static_cast<__u32>(cpus);
  ::bpf_program__set_autoload(skeleton->progs.each_task, sleepable);
  ::bpf_program__set_autoload(skeleton->progs.each_task_plain, !sleepable);
  int outcome = snapshot_bpf__load(skeleton.get());
  if (outcome != 0) return log.fail("loading the eBPF iterator", -outcome);
  outcome = snapshot_bpf__attach(skeleton.get());
  if (outcome != 0) return log.fail("attaching the eBPF iterator", -outcome);
  return skeleton;
}

}  // namespace

Result<std::unique_ptr<Snapshot>> open_bpf_snapshot(BpfOptions options) {
  DE_TRY(auto reader, ProcReader::open("/proc"));
  bool sleepable = options.sleepable;
  auto skeleton = load_with_fallback(options.casts, [&](bool casts) { return load(sleepable, casts); });
  if (!skeleton && sleepable && skeleton.error().code != Errc::permission_denied) {
    sleepable = false;
    skeleton = load_with_fallback(options.casts, [&](bool casts) { return load(sleepable, casts); });
  }
  if (!skeleton) return std::unexpected(skeleton.error());
  return std::make_unique<BpfSnapshot>(*std::move(skeleton), sleepable, std::move(reader));
}

Result<std::unique_ptr<Snapshot>> open_bpf_snapshot() { return open_bpf_snapshot(BpfOptions{}); }

}  // namespace daemoneye::sensor
