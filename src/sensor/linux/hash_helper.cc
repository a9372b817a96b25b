#include "sensor/linux/hash_helper.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <ctime>
#include <memory>
#include <string>
#include <vector>

#include "base/backoff.h"
#include "base/memory.h"
#include "base/time.h"
#include "sensor/hash_cache.h"
#include "sensor/hash_protocol.h"
#include "sensor/linux/hash_budget.h"
#include "sensor/linux/hash_file.h"

namespace daemoneye::sensor {
namespace {

constexpr std::size_t helper_cache_entries = 4096;  // about 500 KiB
constexpr std::chrono::milliseconds restart_first{100}, proven_after{30'000};
// No pause may look as if a worker hung.
constexpr int restarts_in_stall = 4;
constexpr std::chrono::milliseconds kill_grace{1000};
// A worker that would have to rest so long takes no more requests.
constexpr std::chrono::seconds max_debt{1};
constexpr std::size_t max_requests_a_round = 64;
constexpr unsigned max_cpu_percent = 100;
// Workers that could not even be killed, stuck in a file system that does not answer.
constexpr int max_abandoned = 8;

std::chrono::nanoseconds read_clock(clockid_t clock) {
  timespec time{};
  ::clock_gettime(clock, &time);
  return std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec);
}

bool send_message(int socket, const std::string& message) {
  for (;;) {
    if (::send(socket, message.data(), message.size(), MSG_NOSIGNAL) >= 0) return true;
    if (errno != EINTR) return false;
  }
}

class Worker {
 public:
  Worker(const HasherOptions& options, const HelperHandles& handles, FileOpener opener)
      : options_(options),
        socket_(handles.messages.get()),
        progress_(*handles.progress),
        opener_(std::move(opener)),
        cache_(helper_cache_entries),
        budget_(options.cpu_percent, read_clock(CLOCK_MONOTONIC), read_clock(CLOCK_PROCESS_CPUTIME_ID)) {
    buffer_.resize(128 * 1024);
    jobs_.reserve(max_hash_window);
  }

  // Until procmond is gone.
  void run() {
    while (step()) progress_.steps.fetch_add(1, std::memory_order_relaxed);
  }

 private:
  struct Job {
    Job(std::uint64_t id_in, OpenedFile opened_in, UniqueFd fd)
        : id(id_in), opened(std::move(opened_in)), hash(std::move(fd)) {}
    std::uint64_t id;
    OpenedFile opened;
    FileHash hash;
  };

  bool step() {
    const auto cpu = read_clock(CLOCK_PROCESS_CPUTIME_ID);
    progress_.cpu_ns.store(static_cast<std::uint64_t>(cpu.count()), std::memory_order_relaxed);
    budget_.set_percent(std::min(progress_.cpu_percent.load(std::memory_order_relaxed), max_cpu_percent));
    const auto rest = budget_.rest(read_clock(CLOCK_MONOTONIC), cpu);
    pollfd waiting{.fd = socket_, .events = POLLIN, .revents = 0};
    // Opening costs, too, and is done ahead of the budget, as a process may end at any time; but not without end: with
    // so much to pay back requests wait in the socket, then in procmond's queue, which refuses and counts.
    const bool in_debt = rest > max_debt;
    if (in_debt || jobs_.size() >= max_hash_window) waiting.events = 0;  // HUP is told all the same
    // At most a second, so that `steps` shows that it lives.
    const auto pause =
        std::chrono::ceil<std::chrono::milliseconds>(std::min<std::chrono::nanoseconds>(rest, std::chrono::seconds(1)));
    const int timeout = jobs_.empty() && !in_debt ? -1 : static_cast<int>(pause.count());
    const int ready = ::poll(&waiting, 1, timeout);
    if (ready < 0 && errno != EINTR) return false;
    if (ready > 0) {
      if ((waiting.revents & POLLIN) != 0) return take_requests();
      return false;
    }
    if (ready == 0 && rest.count() == 0 && !jobs_.empty()) return advance();
    return true;
  }

  // What is there: each file is opened before anything more is hashed. A round is bounded, as the answers make room for
  // requests that arrive meanwhile, and the budget is looked at between rounds only.
  bool take_requests() {
    for (std::size_t taken = 0; taken < max_requests_a_round && jobs_.size() < max_hash_window; ++taken) {
      const auto size = ::recv(socket_, message_.data(), message_.size(), MSG_DONTWAIT | MSG_TRUNC);
      if (size < 0) return errno == EAGAIN || errno == EINTR;
      if (size == 0) return false;  // procmond is gone
      if (static_cast<std::size_t>(size) > message_.size()) return false;
      const auto request = decode_hash_request({message_.data(), static_cast<std::size_t>(size)});
      if (!request) return false;  // whoever speaks so is not our procmond any more
      progress_.current.store(request->id, std::memory_order_relaxed);
      const bool sent = begin(*request);
      progress_.current.store(0, std::memory_order_relaxed);
      if (!sent) return false;
    }
    return true;
  }

  bool begin(const HashRequest& request) {
    auto opened = opener_.open(request);
    if (opened.fd && opened.seen.size > options_.max_file_bytes) {
      opened.error = "larger than " + std::to_string(options_.max_file_bytes) + " bytes";
      opened.hopeless = true;
      opened.fd.reset();
    }
    if (!opened.fd) return reply(request.id, opened, {});
    if (opened.key.inode != 0) {
      if (const auto* known = cache_.find(opened.key)) return reply(request.id, opened, *known);
    }
    auto fd = std::move(opened.fd);
    jobs_.push_back(std::make_unique<Job>(request.id, std::move(opened), std::move(fd)));
    return true;
  }

  // The shortest first, so that a large file holds up nobody; every fourth time the oldest, so that nobody holds up
  // the large one for ever.
  bool advance() {
    auto chosen = jobs_.begin();
    if (++turns_ % 4 != 0) {
      chosen = std::ranges::min_element(jobs_, {}, [](const auto& job) { return job->hash.left(); });
    }
    auto& job = **chosen;
    progress_.current.store(job.id, std::memory_order_relaxed);
    const auto before = job.hash.bytes_read();
    auto digest = job.hash.advance(buffer_);
    progress_.current.store(0, std::memory_order_relaxed);
    progress_.bytes.fetch_add(job.hash.bytes_read() - before, std::memory_order_relaxed);
    if (digest && !*digest) return true;
    bool sent = true;
    if (!digest) {
      job.opened.error = digest.error().message;
      sent = reply(job.id, job.opened, {});
    } else {
      sent = finish(job, **digest);
    }
    jobs_.erase(chosen);
    return sent;
  }

  bool finish(Job& job, const base::Sha256Digest& digest) {
    auto& opened = job.opened;
    const auto& read = job.hash.identity();
    if (read.size != opened.seen.size || read.mtime_ns != opened.seen.mtime_ns ||
        (opened.at_path && read.ctime_ns != opened.seen.ctime_ns)) {
      opened.error = "it changed before it was read";
      return reply(job.id, opened, {});
    }
    if (read.ctime_ns != opened.seen.ctime_ns) opened.key = {};
    if (opened.key.inode != 0) cache_.put(opened.key, digest);
    return reply(job.id, opened, digest);
  }

  bool reply(std::uint64_t id, const OpenedFile& opened, std::optional<base::Sha256Digest> digest) {
    HashReply answer;
    answer.id = id;
    answer.state = opened.state;
    answer.digest = digest;
    if (digest) answer.file = opened.key;
    answer.path = opened.path;
    answer.error = opened.error;
    answer.hopeless = opened.hopeless;
    return send_message(socket_, encode_hash_reply(answer));
  }

  const HasherOptions& options_;
  int socket_;
  HashProgress& progress_;
  FileOpener opener_;
  LruMap<FileIdentity, base::Sha256Digest, FileIdentityHash> cache_;
  CpuBudget budget_;
  std::vector<std::unique_ptr<Job>> jobs_;  // oldest first
  std::string buffer_;
  std::array<char, max_hash_message_bytes> message_{};
  std::uint64_t turns_ = 0;
};

void die_with_parent(pid_t parent) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) ::_exit(0);  // it ended in between
}

[[noreturn]] void refuse(int socket, const std::string& reason, std::uint64_t previous) {
  HashHello hello;
  hello.pid = static_cast<std::uint32_t>(::getpid());
  hello.previous = previous;
  hello.error = reason;
  send_message(socket, encode_hash_hello(hello));
  ::_exit(1);
}

[[noreturn]] void run_worker(const HasherOptions& options, const Confinement& confinement, const HelperHandles& handles,
                             std::map<std::string, std::string> details) {
  const auto previous = handles.progress->current.exchange(0);
  const int socket = handles.messages.get();
  auto opener = FileOpener::create();
  if (!opener) refuse(socket, opener.error().message, previous);
  Worker worker(options, handles, *std::move(opener));
  // Its first use may load libraries and read settings, which the filter does not allow.
  base::sha256({});
  if (confinement.filter) {
    auto filtered = confinement.filter();
    if (!filtered) refuse(socket, "the system call filter: " + filtered.error().message, previous);
    for (auto& [key, value] : *filtered) details.insert_or_assign(key, std::move(value));
  }
  HashHello hello;
  hello.pid = static_cast<std::uint32_t>(::getpid());
  hello.previous = previous;
  hello.details = std::move(details);
  if (!send_message(socket, encode_hash_hello(hello))) ::_exit(0);
  base::release_free_memory();
  base::release_read_pages();
  worker.run();
  ::_exit(0);
}

// Only what the helper needs stays open; standard error too, for the sanitizers and the C library's last words.
void keep_only(HelperHandles& handles) {
  const int nothing = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  if (nothing >= 0) {
    ::dup2(nothing, STDIN_FILENO);
    ::dup2(nothing, STDOUT_FILENO);
  }
  // To 3 and 4, by way of high numbers, so that neither is overwritten before it is moved.
  const int messages = ::fcntl(handles.messages.release(), F_DUPFD_CLOEXEC, 16);
  const int control = ::fcntl(handles.control.release(), F_DUPFD_CLOEXEC, 16);
  ::dup3(messages, 3, O_CLOEXEC);
  ::dup3(control, 4, O_CLOEXEC);
  ::syscall(SYS_close_range, 5U, ~0U, 0U);
  handles.messages.reset(3);
  handles.control.reset(4);
}

void reset_signals() {
  for (int number = 1; number < NSIG; ++number) ::signal(number, SIG_DFL);
  // A terminal's Ctrl-C or a service manager's SIGTERM is meant for procmond, which has still to drain; when it ends,
  // so does the helper.
  for (const int number : {SIGINT, SIGTERM, SIGHUP, SIGPIPE}) ::signal(number, SIG_IGN);
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
}

// Waits for the end of `worker`, for `timeout` or for word from procmond, whichever comes first.
enum class Woken { ended, told, closed, late };
Woken wait_for(int worker, int control, int timeout) {
  std::array<pollfd, 2> waiting{
      {{.fd = worker, .events = POLLIN, .revents = 0}, {.fd = control, .events = POLLIN, .revents = 0}}};
  int ready = 0;
  do ready = ::poll(waiting.data(), waiting.size(), timeout);
  while (ready < 0 && errno == EINTR);
  if (waiting[0].revents != 0) return Woken::ended;
  if (waiting[1].revents != 0) {
    char byte = 0;
    return ::read(control, &byte, 1) == 1 ? Woken::told : Woken::closed;
  }
  return Woken::late;
}

}  // namespace

void run_hash_keeper(const HasherOptions& options, const Confinement& confinement, HelperHandles handles) {
  const auto parent = ::getppid();
  ::prctl(PR_SET_NAME, "daemoneye-hash");
  reset_signals();
  keep_only(handles);
  const int socket = handles.messages.get();
  std::map<std::string, std::string> details;
  if (confinement.drop) {
    auto dropped = confinement.drop();
    if (!dropped) refuse(socket, dropped.error().message, 0);
    details = *std::move(dropped);
  }
  // After the change of user, which forgets it.
  die_with_parent(parent);

  const auto restart_max = options.stall_timeout / restarts_in_stall;
  base::Backoff backoff(restart_first, restart_max, static_cast<std::uint64_t>(parent),
                        std::min(restart_first, restart_max) / 2);
  for (int abandoned = 0; abandoned < max_abandoned;) {
    const auto started = base::SteadyClock::now();
    const auto keeper = ::getpid();
    const auto worker = ::fork();
    if (worker == 0) {
      die_with_parent(keeper);
      handles.control.reset();
      run_worker(options, confinement, handles, details);
    }
    base::release_read_pages();  // it only waits
    if (worker > 0) {
      const UniqueFd watched(static_cast<int>(::syscall(SYS_pidfd_open, worker, 0)));
      if (!watched) ::waitpid(worker, nullptr, 0);  // before Linux 5.3: one that hangs is not replaced
      auto woken = !watched ? Woken::ended : wait_for(watched.get(), handles.control.get(), -1);
      if (woken == Woken::closed) ::_exit(0);
      if (woken == Woken::told) {
        ::kill(worker, SIGKILL);
        woken = wait_for(watched.get(), -1, static_cast<int>(kill_grace.count()));
        if (woken != Woken::ended) ++abandoned;
      }
    }
    while (::waitpid(-1, nullptr, WNOHANG) > 0) {
    }
    if (base::SteadyClock::now() - started > proven_after) backoff.reset();
    const auto pause = std::chrono::duration_cast<std::chrono::milliseconds>(backoff.next());
    if (wait_for(-1, handles.control.get(), static_cast<int>(pause.count())) == Woken::closed) ::_exit(0);
  }
  ::_exit(1);
}

}  // namespace daemoneye::sensor
