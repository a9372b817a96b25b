// procmond's side of the hashing helper: forks it, gives it requests, and believes nothing but well-formed answers to
// what was asked.
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <deque>
#include <new>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/text.h"
#include "base/time.h"
#include "sensor/hash_protocol.h"
#include "sensor/linux/hash_helper.h"

namespace daemoneye::sensor {
namespace {

constexpr std::chrono::milliseconds check_interval{500};
// A worker that hung or ended stays in problem() this long, so that a person who looks sees it.
constexpr std::chrono::minutes trouble_shown{10};
constexpr int max_attempts = 2;  // a request that outlived two workers is not given to a third

// Shared with the helper and, like it, as long-lived as this program needs it.
class ProgressPage {
 public:
  static Result<ProgressPage> create(unsigned cpu_percent) {
    void* page = ::mmap(nullptr, sizeof(HashProgress), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) return fail_errno("a page to share with the hashing helper", errno);
    auto* progress = new (page) HashProgress{};
    progress->cpu_percent.store(cpu_percent, std::memory_order_relaxed);
    return ProgressPage(progress);
  }
  ProgressPage(ProgressPage&& other) noexcept : page_(std::exchange(other.page_, nullptr)) {}
  ProgressPage& operator=(ProgressPage&&) = delete;
  ~ProgressPage() {
    if (page_ != nullptr) ::munmap(page_, sizeof(HashProgress));
  }
  HashProgress* get() const { return page_; }

 private:
  explicit ProgressPage(HashProgress* page) : page_(page) {}
  HashProgress* page_;
};

// One message; nothing when there is none. The error: the helper is gone, or sends what no message can be.
Result<std::optional<std::string_view>> receive(int socket, std::array<char, max_hash_message_bytes>& buffer) {
  for (;;) {
    const auto size = ::recv(socket, buffer.data(), buffer.size(), MSG_DONTWAIT | MSG_TRUNC);
    if (size < 0 && errno == EINTR) continue;
    if (size < 0 && errno == EAGAIN) return std::nullopt;
    if (size < 0) return fail_errno("the hashing helper", errno);
    if (size == 0) return fail(Errc::unavailable, "the hashing helper ended");
    if (static_cast<std::size_t>(size) > buffer.size()) return std::string_view();  // does not decode
    return std::string_view(buffer.data(), static_cast<std::size_t>(size));
  }
}

class HelperHasher final : public Hasher {
 public:
  HelperHasher(HasherOptions options, UniqueFd messages, UniqueFd control, ProgressPage progress, pid_t keeper)
      : options_(options),
        messages_(std::move(messages)),
        control_(std::move(control)),
        progress_(std::move(progress)),
        keeper_(keeper) {}
  ~HelperHasher() override { stop(); }

  Result<void> start(EventLoop& loop, OnAnswer on_answer) override {
    loop_ = &loop;
    on_answer_ = std::move(on_answer);
    DE_CHECK(loop.add(messages_.get(), EPOLLIN, [this](std::uint32_t) { on_ready(); }));
    DE_TRY(timer_, loop.add_timer(check_interval, check_interval, [this] { check(); }));
    return {};
  }

  bool submit(HashRequest request) override {
    if (!messages_ || queue_.size() >= options_.max_queued) {
      ++counters_.refused;
      return false;
    }
    ++counters_.requests;
    queue_.push_back({std::move(request), {}, 0});
    pump();
    return true;
  }

  HasherCounters counters() const override {
    auto counters = counters_;
    counters.queued = queue_.size();
    counters.sent = sent_.size();
    const auto& progress = *progress_.get();
    counters.bytes = progress.bytes.load(std::memory_order_relaxed);
    counters.cpu = std::chrono::nanoseconds(cpu_before_ + progress.cpu_ns.load(std::memory_order_relaxed));
    return counters;
  }

  std::string problem() const override {
    if (!messages_) return ended_;
    if (refused_) return "the hashing helper does not serve: " + *refused_;
    if (!trouble_.empty() && base::SteadyClock::now() - trouble_time_ < trouble_shown) return trouble_;
    return {};
  }

  void set_cpu_percent(unsigned percent) override {
    progress_.get()->cpu_percent.store(percent, std::memory_order_relaxed);
  }

  void stop() override {
    if (loop_ != nullptr) {
      if (messages_) loop_->remove(messages_.get());
      if (timer_) loop_->remove_timer(*timer_);
      loop_ = nullptr;
    }
    queue_.clear();
    sent_.clear();
    messages_.reset();
    control_.reset();
    if (keeper_ > 0 && ended_.empty()) {
      ended_ = "the hashing helper is stopped";
      reap(true);
    }
  }

  // Waits for the helper's first word.
  Result<std::map<std::string, std::string>> greeting() {
    const auto deadline = Deadline::after(max_start);
    std::array<char, max_hash_message_bytes> buffer;
    while (!deadline.expired()) {
      DE_TRY(const auto message, receive(messages_.get(), buffer));
      if (!message) {
        ::usleep(500);  // once, at the start, before there is a loop to wait in
        continue;
      }
      DE_TRY(auto decoded, decode_hash_message(*message));
      if (!decoded.hello) return fail(Errc::corrupt, "the hashing helper did not greet first");
      if (!decoded.hello->error.empty()) return fail(Errc::unavailable, base::printable(decoded.hello->error));
      decoded.hello->details["pid"] = std::to_string(keeper_);
      return std::move(decoded.hello->details);
    }
    return fail(Errc::timeout, "the hashing helper did not confine itself in time");
  }

 private:
  struct Pending {
    HashRequest request;
    base::SteadyClock::time_point deadline;
    int attempts = 0;
  };

  void pump() {
    bool full = false;
    while (messages_ && sent_.size() < max_hash_window && !queue_.empty()) {
      auto& next = queue_.front();
      // What it is called on the wire: an answer of a worker that was given up cannot be taken for another's.
      const auto wire = next_wire_;
      auto request = next.request;
      request.id = wire;
      const auto message = encode_hash_request(request);
      if (::send(messages_.get(), message.data(), message.size(), MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
        full = errno == EAGAIN;
        break;  // anything else is told by the next read
      }
      ++next_wire_;
      ++next.attempts;
      next.deadline = base::SteadyClock::now() + options_.request_timeout;
      if (sent_.empty()) moved_ = base::SteadyClock::now();
      sent_.emplace(wire, std::move(next));
      queue_.pop_front();
    }
    if (full != waits_for_room_ && messages_ && loop_ != nullptr) {
      waits_for_room_ = full;
      static_cast<void>(loop_->modify(messages_.get(), full ? EPOLLIN | EPOLLOUT : EPOLLIN));
    }
  }

  void on_ready() {
    // Bounded, so that a helper that talks without end does not keep the loop.
    for (int i = 0; i < 256 && messages_; ++i) {
      auto message = receive(messages_.get(), buffer_);
      if (!message) return end(message.error().message);
      if (!*message) break;
      moved_ = base::SteadyClock::now();
      auto decoded = decode_hash_message(**message);
      if (!decoded)
        ++counters_.bad_messages;
      else if (decoded->hello)
        on_hello(*decoded->hello);
      else
        on_reply(*decoded->reply);
    }
    pump();
  }

  // A new worker: what its predecessor held is asked again, but for what it ended on.
  void on_hello(const HashHello& hello) {
    ++counters_.restarts;
    cpu_before_ += std::exchange(cpu_seen_, 0);
    if (!hello.error.empty()) {
      refused_ = base::printable(hello.error);
    } else {
      refused_.reset();
    }
    auto lost = std::exchange(sent_, {});
    std::string on;
    for (auto& [wire, pending] : lost) {
      if (wire == hello.previous || pending.attempts >= max_attempts) {
        if (wire == hello.previous) on = " on " + base::printable(pending.request.path);
        // Only what it was at may be to blame: what waited beside it is as good as any other file.
        answer(pending, nullptr, "the hashing helper ended on it", wire == hello.previous);
      } else {
        queue_.push_front(std::move(pending));
      }
    }
    if (!std::exchange(stalled_, false))
      trouble("a worker of the hashing helper ended" + on + "; another took its place");
  }

  void on_reply(HashReply& reply) {
    const auto found = sent_.find(reply.id);
    if (found == sent_.end()) return;  // too late, or of a former worker
    const auto pending = std::move(found->second);
    sent_.erase(found);
    answer(pending, &reply, base::printable(reply.error));
  }

  void answer(const Pending& pending, HashReply* reply, std::string error, bool hopeless = false) {
    HashAnswer answer;
    answer.id = pending.request.id;
    answer.hopeless = hopeless;
    if (reply != nullptr) {
      answer.state = reply->state;
      answer.file = reply->file;
      answer.path = std::move(reply->path);
      answer.hopeless = reply->hopeless;
      if (reply->digest) answer.hash = base::to_hex(*reply->digest);
    }
    if (!answer.hash) answer.error = error.empty() ? "no reason given" : std::move(error);
    ++(answer.hash ? counters_.hashed : counters_.unanswered);
    if (on_answer_) on_answer_(answer);
  }

  void check() {
    if (!messages_) return;
    // A worker that cannot even be killed keeps its end of the socket open when the keeper is gone.
    if (const auto how = reap(false); !how.empty()) return end("the hashing helper ended" + how);
    const auto now = base::SteadyClock::now();
    const auto& progress = *progress_.get();
    cpu_seen_ = progress.cpu_ns.load(std::memory_order_relaxed);
    if (const auto steps = progress.steps.load(std::memory_order_relaxed); steps != steps_) {
      steps_ = steps;
      moved_ = now;
    }
    std::vector<std::uint64_t> late;
    for (const auto& [wire, pending] : sent_) {
      if (pending.deadline <= now) late.push_back(wire);
    }
    for (const auto wire : late) {
      const auto node = sent_.extract(wire);
      ++counters_.late;
      // Only what it is at may be to blame: the others have but waited too long.
      const bool at_it = progress.current.load(std::memory_order_relaxed) == wire;
      answer(node.mapped(), nullptr, "not answered within its deadline", at_it);
    }
    if (!sent_.empty() && now - moved_ > options_.stall_timeout) {
      const auto at = sent_.find(progress.current.load(std::memory_order_relaxed));
      trouble("the hashing helper hung" +
              (at == sent_.end() ? std::string() : " on " + base::printable(at->second.request.path)) +
              " and was replaced");
      ++counters_.stalls;
      stalled_ = true;
      moved_ = now;
      const char byte = 0;
      static_cast<void>(!::write(control_.get(), &byte, 1));
    }
    pump();
  }

  void trouble(std::string text) {
    trouble_ = std::move(text);
    trouble_time_ = base::SteadyClock::now();
  }

  // For good: it cannot be started again without the privileges that are gone.
  void end(const std::string& reason) {
    if (loop_ != nullptr) loop_->remove(messages_.get());
    messages_.reset();
    ended_ = reason + reap(false) + ", executables are no longer hashed (until procmond starts again)";
    if (refused_) ended_ += "; it last said: " + *refused_;
    auto sent = std::exchange(sent_, {});
    auto queue = std::exchange(queue_, {});
    for (const auto& [wire, pending] : sent) answer(pending, nullptr, "the hashing helper ended");
    for (const auto& pending : queue) answer(pending, nullptr, "the hashing helper ended");
  }

  std::string reap(bool wait) {
    int status = 0;
    if (keeper_ <= 0 || ::waitpid(keeper_, &status, wait ? 0 : WNOHANG) != keeper_) return {};
    keeper_ = 0;
    if (WIFSIGNALED(status)) return std::string(" by signal ") + std::to_string(WTERMSIG(status));
    return " with " + std::to_string(WEXITSTATUS(status));
  }

  const HasherOptions options_;
  UniqueFd messages_, control_;
  ProgressPage progress_;
  pid_t keeper_;
  EventLoop* loop_ = nullptr;
  std::optional<EventLoop::TimerId> timer_;
  OnAnswer on_answer_;
  std::deque<Pending> queue_;
  std::unordered_map<std::uint64_t, Pending> sent_;  // by the id on the wire
  std::uint64_t next_wire_ = 1;
  bool waits_for_room_ = false, stalled_ = false;
  std::uint64_t steps_ = 0, cpu_before_ = 0, cpu_seen_ = 0;
  base::SteadyClock::time_point moved_, trouble_time_;
  std::string trouble_, ended_;
  std::optional<std::string> refused_;
  HasherCounters counters_;
  std::array<char, max_hash_message_bytes> buffer_{};
};

}  // namespace

Result<OpenedHasher> open_hasher(const HasherOptions& options, const Confinement& confinement) {
  std::array<int, 2> messages{}, control{};
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, messages.data()) != 0)
    return fail_errno("socketpair", errno);
  UniqueFd ours(messages[0]), theirs(messages[1]);
  if (::pipe2(control.data(), O_CLOEXEC) != 0) return fail_errno("pipe", errno);
  UniqueFd control_theirs(control[0]), control_ours(control[1]);
  DE_TRY(auto progress, ProgressPage::create(options.cpu_percent));
  const auto keeper = ::fork();
  if (keeper < 0) return fail_errno("forking the hashing helper", errno);
  if (keeper == 0) {
    ours.reset();
    control_ours.reset();
    run_hash_keeper(options, confinement,
                    {.messages = std::move(theirs), .control = std::move(control_theirs), .progress = progress.get()});
  }
  theirs.reset();
  control_theirs.reset();
  auto hasher =
      std::make_unique<HelperHasher>(options, std::move(ours), std::move(control_ours), std::move(progress), keeper);
  DE_TRY(auto details, hasher->greeting());
  return OpenedHasher{std::move(hasher), std::move(details)};
}

}  // namespace daemoneye::sensor
