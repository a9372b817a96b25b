// Other sinks while the agent runs: one Impl after the other, never two that read the same outbox.
#include <utility>

#include "alert/delivery_impl.h"
#include "observe/log.h"

namespace daemoneye::alert {
namespace {

using observe::Level;

constexpr auto finish_within = std::chrono::seconds(5);  // what the sinks of before have under way
constexpr auto again_after = std::chrono::seconds(1);    // when the store could not be read
// An alert that was routed just before the change may be committed just after it.
constexpr auto retire_again_after = std::chrono::seconds(5);

}  // namespace

void Deliverer::Changer::run() {
  std::unique_lock lock(mutex);
  while (next && !stopping) {
    auto change = *std::exchange(next, std::nullopt);
    applying = true;
    lock.unlock();
    apply(std::move(change));
    lock.lock();
    applying = false;
    if (changed.wait_for(lock, retire_again_after, [&] { return stopping || next; })) continue;
    const auto impl = current;
    lock.unlock();
    impl->retire();
    lock.lock();
  }
  running = false;
}

bool Deliverer::Changer::interrupted_within(std::chrono::nanoseconds time) {
  std::unique_lock lock(mutex);
  return changed.wait_for(lock, time, [&] { return stopping; });
}

void Deliverer::Changer::apply(Change change) {
  std::shared_ptr<Impl> before;
  {
    std::lock_guard lock(mutex);
    before = current;
  }
  before->stop(Deadline::after(finish_within));
  before->join();
  before->reader = store::ReaderLease();  // the next one needs a place
  for (;;) {
    {
      std::lock_guard lock(mutex);
      if (stopping) return;
    }
    auto begun = Impl::begin(change.settings, readers, writer, std::move(change.outside));
    if (begun) {
      std::lock_guard lock(mutex);
      current = std::move(*begun);
      // Who stopped the deliverer meanwhile stopped the one before.
      if (stopping) current->stop(Deadline::after(std::chrono::nanoseconds(0)));
      return;
    }
    observe::log(Level::error, "alert", "the new sinks cannot begin yet", {{"error", begun.error().message}});
    if (interrupted_within(again_after)) return;
    change.outside = Outside{};
    change.outside.identity = identity;
    for (const auto& sink : change.settings.sinks) {
      if (auto made = make_sink(sink)) change.outside.sinks.push_back(std::move(*made));
    }
  }
}

void Deliverer::Impl::retire() {
  const auto lease = readers.take(Deadline::after(reader_patience));
  const auto owed = lease ? (*lease)->held_sinks() : std::unexpected(lease.error());
  if (owed)
    retire_sinks(*owed);
  else
    observe::log(Level::warn, "alert", "what waits for sinks that are no more is looked for at the next start",
                 {{"error", owed.error().message}});
}

}  // namespace daemoneye::alert
