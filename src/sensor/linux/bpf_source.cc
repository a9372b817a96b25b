// The real-time eBPF source: bpf/collect.bpf.c fills a ring buffer, this reads it.
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <sys/epoll.h>
#include <sys/wait.h>

#include <cerrno>
#include <optional>

#include "collect.skel.h"
#include "sensor/linux/bpf_log.h"
#include "sensor/linux/clocks.h"
#include "sensor/linux/record.h"
#include "sensor/source.h"

namespace daemoneye::sensor {
namespace {

// The programs may leave events without a wake-up for up to 10 ms after one (WAKE_WINDOW_NS): so after each wake-up
// the ring is looked at again at this distance, until it was found empty twice; and seldom ever after, should a
// virtual CPU have been stopped for longer than that between choosing no wake-up and publishing its record.
constexpr std::chrono::milliseconds kRecheck{10};
constexpr int kEmptyLooks = 2;
constexpr std::chrono::milliseconds kIdleRecheck{1000};
// Records handed over before the loop gets its turn again.
constexpr std::size_t kMaxRecordsAtOnce = 4096;
constexpr std::size_t kMaxRecordsByPoll = 1 << 20;
constexpr std::size_t kMinRing = 4096;
constexpr std::size_t kMaxRing = std::size_t{1} << 30;
// What the ring's callback answers to make libbpf stop after this record.
constexpr int kEnough = -ECANCELED;

struct CloseSkeleton {
  void operator()(collect_bpf* skeleton) const { collect_bpf__destroy(skeleton); }
};
struct CloseRing {
  void operator()(ring_buffer* ring) const { ::ring_buffer__free(ring); }
};

class BpfSource final : public Source {
 public:
  BpfSource(std::unique_ptr<collect_bpf, CloseSkeleton> skeleton) : skeleton_(std::move(skeleton)) {}
  ~BpfSource() override { stop(); }

  Result<void> open_ring() {
    ring_.reset(::ring_buffer__new(bpf_map__fd(skeleton_->maps.events), &BpfSource::on_record, this, nullptr));
    if (!ring_) return fail_errno("mapping the eBPF ring buffer", errno);
    return {};
  }

  [[nodiscard]] event::EventSource kind() const override { return event::EventSource::ebpf; }
  [[nodiscard]] std::string_view name() const override { return "ebpf"; }

  Result<void> start(EventLoop& loop, std::function<void(const RawEvent&)> on_event,
                     std::function<void(const Error&)> on_failure) override {
    if (loop_ != nullptr) return fail(Errc::internal, "the eBPF source was started twice");
    on_event_ = std::move(on_event);
    on_failure_ = std::move(on_failure);
    DE_CHECK(loop.add(::ring_buffer__epoll_fd(ring_.get()), EPOLLIN, [this](std::uint32_t) { on_wakeup(); }));
    loop_ = &loop;
    arm();  // for what happened since the programs were attached
    return {};
  }

  void poll() override { drain(kMaxRecordsByPoll); }

  [[nodiscard]] SourceCounters counters() const override {
    auto counters = counters_;
    for (const auto lost : skeleton_->bss->losses) counters.lost += lost;
    for (const auto* program : {skeleton_->progs.on_exec, skeleton_->progs.on_fork, skeleton_->progs.on_exit}) {
      // A program that is interrupted by itself on the same CPU is skipped by the kernel. Not every sandbox lets us
      // ask.
      bpf_prog_info info{};
      __u32 size = sizeof info;
      if (::bpf_obj_get_info_by_fd(bpf_program__fd(program), &info, &size) == 0) counters.lost += info.recursion_misses;
    }
    return counters;
  }

  void stop() override {
    if (loop_ == nullptr) return;
    loop_->remove(::ring_buffer__epoll_fd(ring_.get()));
    if (recheck_) loop_->remove_timer(*recheck_);
    recheck_.reset();
    loop_ = nullptr;
  }

 private:
  static int on_record(void* self, void* data, std::size_t size) {
    return static_cast<BpfSource*>(self)->take({static_cast<const char*>(data), size});
  }

  int take(std::string_view bytes) {
    if (const auto info = decode_record(bytes, event_.process)) {
      event_.kind = info->kind == DE_EXEC ? RawKind::exec : info->kind == DE_FORK ? RawKind::fork : RawKind::exit;
      event_.time = Timestamp{static_cast<std::int64_t>(info->boot_ns) + wall_offset_ns_};
      event_.exit_code = WIFEXITED(info->exit_status) ? WEXITSTATUS(info->exit_status) : 0;
      event_.exit_signal = WIFSIGNALED(info->exit_status) ? WTERMSIG(info->exit_status) : 0;
      ++counters_.events;
      if (info->cut) ++counters_.truncated;
      on_event_(event_);
    } else {
      ++counters_.lost;  // the ring's two sides are built together: only memory corruption leads here
    }
    return ++taken_ >= limit_ ? kEnough : 0;
  }

  std::size_t drain(std::size_t limit) {
    if (!on_event_) return 0;
    wall_offset_ns_ = wall_minus_boot_ns();
    taken_ = 0;
    limit_ = limit;
    const int outcome = ::ring_buffer__consume(ring_.get());
    if (outcome < 0 && outcome != kEnough && on_failure_) {
      on_failure_(fail_errno("reading the eBPF ring buffer", -outcome).error());
    }
    return taken_;
  }

  void on_wakeup() {
    drain(kMaxRecordsAtOnce);
    const bool resting = empty_looks_ >= kEmptyLooks;
    empty_looks_ = 0;
    if (resting) arm();
  }

  // The one timer: soon while there is something to expect, otherwise seldom.
  void arm() {
    if (loop_ == nullptr) return;
    if (recheck_) loop_->remove_timer(*recheck_);
    recheck_.reset();
    const auto distance = empty_looks_ < kEmptyLooks ? kRecheck : kIdleRecheck;
    auto timer = loop_->add_timer(distance, std::chrono::nanoseconds(0), [this] {
      recheck_.reset();
      if (drain(kMaxRecordsAtOnce) > 0)
        empty_looks_ = 0;
      else if (empty_looks_ < kEmptyLooks)
        ++empty_looks_;
      arm();
    });
    if (timer)
      recheck_ = *timer;
    else if (on_failure_)
      on_failure_(timer.error());
  }

  std::unique_ptr<collect_bpf, CloseSkeleton> skeleton_;
  std::unique_ptr<ring_buffer, CloseRing> ring_;
  EventLoop* loop_ = nullptr;
  std::optional<EventLoop::TimerId> recheck_;
  int empty_looks_ = 0;
  std::function<void(const RawEvent&)> on_event_;
  std::function<void(const Error&)> on_failure_;
  RawEvent event_;
  SourceCounters counters_;
  std::int64_t wall_offset_ns_ = 0;
  std::size_t taken_ = 0, limit_ = 0;
};

}  // namespace

Result<std::unique_ptr<Source>> open_bpf_source(std::size_t ring_bytes) {
  if (ring_bytes < kMinRing || ring_bytes > kMaxRing || (ring_bytes & (ring_bytes - 1)) != 0) {
    return fail(Errc::invalid_input, "the eBPF ring's size must be a power of two from 4096 to 2^30");
  }
  const BpfLog log;
  std::unique_ptr<collect_bpf, CloseSkeleton> skeleton(collect_bpf__open());
  if (!skeleton) return log.fail("opening the eBPF programs", errno);
  const int cpus = ::libbpf_num_possible_cpus();
  if (cpus < 1) return log.fail("counting CPUs", -cpus);
  int outcome = ::bpf_map__set_max_entries(skeleton->maps.events, static_cast<__u32>(ring_bytes));
  if (outcome == 0) outcome = ::bpf_map__set_max_entries(skeleton->maps.scratches, static_cast<__u32>(cpus));
  if (outcome != 0) return log.fail("sizing the eBPF maps", -outcome);
  outcome = collect_bpf__load(skeleton.get());
  if (outcome != 0) return log.fail("loading the eBPF programs", -outcome);
  outcome = collect_bpf__attach(skeleton.get());
  if (outcome != 0) return log.fail("attaching the eBPF programs", -outcome);
  auto source = std::make_unique<BpfSource>(std::move(skeleton));
  DE_CHECK(source->open_ring());
  return source;
}

}  // namespace daemoneye::sensor
