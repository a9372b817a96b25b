// The real-time eBPF source: bpf/collect.bpf.c fills a ring buffer, this reads it.
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <sys/epoll.h>
#include <sys/wait.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <optional>

#include "collect.skel.h"
#include "sensor/linux/bpf_log.h"
#include "sensor/linux/bpf_options.h"
#include "sensor/linux/clocks.h"
#include "sensor/linux/record.h"
#include "sensor/linux/ring.h"
#include "sensor/source.h"

namespace daemoneye::sensor {
namespace {

// After each find the ring is looked at again so much later, and until then the programs wake nobody (wake_flags() in
// collect.bpf.c): events that are told in batches cost one wake-up a batch. A look that finds nothing ends that.
constexpr std::chrono::milliseconds kLook{40};
// So often the ring must be found empty before the looks end: the second one is for a program that was interrupted
// between choosing no wake-up and publishing its record.
constexpr int kEmptyLooks = 2;
// And seldom ever after, for a virtual CPU that was stopped there, and for forks that woke nobody.
constexpr std::chrono::milliseconds kIdleLook{1000};
// The kernel is asked for its recursion misses at most this often: each is a system call.
constexpr std::chrono::milliseconds kMissesAge{200};
// Of the ring: so full, it wakes its reader at any rate.
constexpr std::size_t kWakeFraction = 8;
// Records handed over before the loop gets its turn again.
constexpr std::size_t kMaxRecordsAtOnce = 4096;
constexpr std::size_t kMaxRecordsByPoll = 1 << 20;
constexpr std::size_t kMinRing = 4096;
constexpr std::size_t kMaxRing = std::size_t{1} << 30;

struct CloseSkeleton {
  void operator()(collect_bpf* skeleton) const { collect_bpf__destroy(skeleton); }
};
using Skeleton = std::unique_ptr<collect_bpf, CloseSkeleton>;

class BpfSource final : public Source {
 public:
  BpfSource(Skeleton skeleton, std::size_t cpus, BpfOptions options)
      : skeleton_(std::move(skeleton)),
        cpus_(std::min(cpus, std::size(skeleton_->bss->losses))),
        read_error_(std::move(options.read_error)) {}
  ~BpfSource() override { stop(); }

  Result<void> open_ring(std::size_t bytes) {
    DE_TRY(ring_, Ring::open(bpf_map__fd(skeleton_->maps.events), bytes));
    return {};
  }

  [[nodiscard]] event::EventSource kind() const override { return event::EventSource::ebpf; }
  [[nodiscard]] std::string_view name() const override { return "ebpf"; }

  Result<void> start(EventLoop& loop, std::function<void(const RawEvent&)> on_event,
                     std::function<void(const Error&)> on_failure) override {
    if (loop_ != nullptr) return fail(Errc::internal, "the eBPF source was started twice");
    on_event_ = std::move(on_event);
    on_failure_ = std::move(on_failure);
    // By the edge: what the programs woke us for, and not whatever they have written since, which a look finds.
    DE_CHECK(loop.add(ring_->fd(), EPOLLIN | EPOLLET, [this](std::uint32_t) { on_wakeup(); }));
    loop_ = &loop;
    look_again_after(kLook);  // for what happened since the programs were attached
    return {};
  }

  void poll() override { drain(kMaxRecordsByPoll); }
  [[nodiscard]] bool failed() const override { return failed_; }

  [[nodiscard]] SourceCounters counters() const override {
    auto counters = counters_;
    for (std::size_t cpu = 0; cpu < cpus_; ++cpu) {
      counters.lost += __atomic_load_n(&skeleton_->bss->losses[cpu], __ATOMIC_RELAXED);
    }
    counters.lost += recursion_misses();
    return counters;
  }

  void stop() override {
    if (loop_ == nullptr) return;
    loop_->remove(ring_->fd());
    if (next_look_) loop_->remove_timer(*next_look_);
    next_look_.reset();
    loop_ = nullptr;
  }

 private:
  // A program that is interrupted by itself on the same CPU is skipped by the kernel. Not every sandbox lets us ask.
  [[nodiscard]] std::uint64_t recursion_misses() const {
    const auto now = std::chrono::steady_clock::now();
    if (misses_asked_ && now - *misses_asked_ < kMissesAge) return misses_;
    misses_asked_ = now;
    std::uint64_t misses = 0;
    for (const auto* program : {skeleton_->progs.on_exec, skeleton_->progs.on_fork, skeleton_->progs.on_exit}) {
      bpf_prog_info info{};
      __u32 size = sizeof info;
      if (::bpf_obj_get_info_by_fd(bpf_program__fd(program), &info, &size) == 0) misses += info.recursion_misses;
    }
    misses_ = std::max(misses_, misses);
    return misses_;
  }

  // Whether more is wanted.
  bool take(std::string_view bytes) {
    // Two, so that executed programs find the buffers of their like.
    auto& event = bytes.size() > sizeof(daemoneye_record) ? executed_ : other_;
    if (const auto info = decode_record(bytes, event.process)) {
      event.kind = info->kind == DE_EXEC ? RawKind::exec : info->kind == DE_FORK ? RawKind::fork : RawKind::exit;
      event.time = Timestamp{static_cast<std::int64_t>(info->boot_ns) + wall_offset_ns_};
      event.boot_ns = info->boot_ns;
      event.exit_code = WIFEXITED(info->exit_status) ? WEXITSTATUS(info->exit_status) : 0;
      event.exit_signal = WIFSIGNALED(info->exit_status) ? WTERMSIG(info->exit_status) : 0;
      ++counters_.events;
      if (info->cut) ++counters_.truncated;
      if (info->kind == DE_EXEC && !event.process.arguments) ++counters_.incomplete;
      on_event_(event);
    } else {
      ++counters_.lost;  // the ring's two sides are built together: only memory corruption leads here
    }
    return ++taken_ < limit_;
  }

  std::size_t drain(std::size_t limit) {
    if (!on_event_ || failed_) return 0;
    wall_offset_ns_ = wall_minus_boot_ns();
    taken_ = 0;
    limit_ = limit;
    int outcome = read_error_ ? read_error_() : 0;
    if (outcome == 0) outcome = ring_->consume([this](std::string_view bytes) { return take(bytes); });
    if (outcome != 0)
      give_up(fail_errno("reading the eBPF ring buffer", outcome).error());
    else if (taken_ > 0)
      come_again();
    return taken_;
  }

  // Said once, in the loop's next turn: the owner may destroy us in answer. Nothing is read any more.
  void give_up(const Error& error) {
    if (failed_) return;
    failed_ = true;
    if (loop_ == nullptr) return;
    if (on_failure_) loop_->post([tell = on_failure_, error] { tell(error); });
    stop();
  }

  void on_wakeup() {
    // What it was for may be behind a record that is still being written.
    if (drain(kMaxRecordsAtOnce) == 0) come_again();
  }

  void on_timer() {
    next_look_.reset();
    if (drain(kMaxRecordsAtOnce) > 0 || loop_ == nullptr) return;
    // From here on the programs wake us; what they told before that is in the ring by now.
    set_reader_comes(false);
    if (drain(kMaxRecordsAtOnce) > 0 || loop_ == nullptr) return;
    empty_looks_ = std::min(empty_looks_ + 1, kEmptyLooks);
    look_again_after(empty_looks_ == kEmptyLooks ? kIdleLook : kLook);
  }

  void come_again() {
    empty_looks_ = 0;
    set_reader_comes(true);
    look_again_after(taken_ < limit_ ? kLook : std::chrono::milliseconds(0));
  }

  void set_reader_comes(bool comes) { __atomic_store_n(&skeleton_->bss->reader_comes, comes, __ATOMIC_SEQ_CST); }

  void look_again_after(std::chrono::milliseconds distance) {
    if (loop_ == nullptr) return;
    if (next_look_) loop_->remove_timer(*next_look_);
    next_look_.reset();
    auto timer = loop_->add_timer(distance, std::chrono::nanoseconds(0), [this] { on_timer(); });
    if (timer)
      next_look_ = *timer;
    else
      give_up(timer.error());
  }

  Skeleton skeleton_;
  std::size_t cpus_;
  std::function<int()> read_error_;
  std::unique_ptr<Ring> ring_;
  EventLoop* loop_ = nullptr;
  std::optional<EventLoop::TimerId> next_look_;
  int empty_looks_ = 0;
  bool failed_ = false;
  std::function<void(const RawEvent&)> on_event_;
  std::function<void(const Error&)> on_failure_;
  RawEvent executed_, other_;
  SourceCounters counters_;
  mutable std::optional<std::chrono::steady_clock::time_point> misses_asked_;
  mutable std::uint64_t misses_ = 0;
  std::int64_t wall_offset_ns_ = 0;
  std::size_t taken_ = 0, limit_ = 0;
};

Result<Skeleton> load(const BpfOptions& options, int cpus, bool casts) {
  const BpfLog log;
  Skeleton skeleton(collect_bpf__open());
  if (!skeleton) return log.fail("opening the eBPF programs", errno);
  skeleton->rodata->can_cast = casts;
  skeleton->rodata->wake_bytes = options.ring_bytes / kWakeFraction;
  skeleton->rodata->forks_wake = options.forks_wake;
  int outcome = ::bpf_map__set_max_entries(skeleton->maps.events, static_cast<__u32>(options.ring_bytes));
  if (outcome == 0) outcome = ::bpf_map__set_max_entries(skeleton->maps.scratches, static_cast<__u32>(cpus));
  if (outcome != 0) return log.fail("sizing the eBPF maps", -outcome);
  outcome = collect_bpf__load(skeleton.get());
  if (outcome != 0) return log.fail("loading the eBPF programs", -outcome);
  outcome = collect_bpf__attach(skeleton.get());
  if (outcome != 0) return log.fail("attaching the eBPF programs", -outcome);
  return skeleton;
}

}  // namespace

Result<std::unique_ptr<Source>> open_bpf_source(BpfOptions options) {
  const auto bytes = options.ring_bytes;
  if (bytes < kMinRing || bytes > kMaxRing || (bytes & (bytes - 1)) != 0) {
    return fail(Errc::invalid_input, "the eBPF ring's size must be a power of two from 4096 to 2^30");
  }
  const int cpus = ::libbpf_num_possible_cpus();
  if (cpus < 1) return fail_errno("counting CPUs", -cpus);
  DE_TRY(auto skeleton, load_with_fallback(options.casts, [&](bool casts) { return load(options, cpus, casts); }));
  auto source = std::make_unique<BpfSource>(std::move(skeleton), static_cast<std::size_t>(cpus), std::move(options));
  DE_CHECK(source->open_ring(bytes));
  return source;
}

Result<std::unique_ptr<Source>> open_bpf_source(std::size_t ring_bytes, bool forks_at_once) {
  return open_bpf_source(BpfOptions{.ring_bytes = ring_bytes, .forks_wake = forks_at_once, .read_error = {}});
}

}  // namespace daemoneye::sensor
