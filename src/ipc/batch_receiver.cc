#include <algorithm>
#include <utility>

#include "ipc/batch_stream.h"

namespace daemoneye::ipc {
namespace {

// The earliest event that told of something as it happened: a scan finds what began long ago, and a gap is of the past.
std::optional<Timestamp> first_of_now(const std::vector<event::EventView>& events) {
  std::optional<Timestamp> first;
  for (const auto& event : events) {
    const bool now = event.kind == event::EventKind::exec || event.kind == event::EventKind::exit ||
                     event.kind == event::EventKind::fork;
    if (now && event.source != event::EventSource::scan && (!first || event.time < *first)) first = event.time;
  }
  return first;
}

}  // namespace

BatchReceiver::BatchReceiver(Hello hello, std::uint64_t committed)
    : hello_(std::move(hello)), welcomed_(committed), received_(committed), committed_(committed) {}

Result<void> BatchReceiver::on_resume(const Resume& resume) {
  if (resumed_) return fail(Errc::corrupt, "a second resume on one connection");
  if (resume.first_sequence <= welcomed_) {
    return fail(Errc::corrupt, "the stream resumes at batch " + std::to_string(resume.first_sequence) +
                                   ", and the store was told to hold " + std::to_string(welcomed_));
  }
  if (resume.first_sequence != welcomed_ + 1 && !resume.missing) {
    return fail(Errc::corrupt, "batches " + std::to_string(welcomed_ + 1) + " to " +
                                   std::to_string(resume.first_sequence - 1) + " are missing without a reason");
  }
  if (resume.missing &&
      (resume.missing->first_sequence != welcomed_ + 1 || resume.missing->last_sequence != resume.first_sequence - 1)) {
    return fail(Errc::corrupt, "what the resume calls missing (" + std::to_string(resume.missing->first_sequence) +
                                   " to " + std::to_string(resume.missing->last_sequence) +
                                   ") is not what the store lacks (" + std::to_string(welcomed_ + 1) + " to " +
                                   std::to_string(resume.first_sequence - 1) + ")");
  }
  resumed_ = true;
  // A commit of what an earlier connection brought may have come between welcome and resume.
  received_ = std::max(received_, resume.first_sequence - 1);
  missing_ = resume.missing;
  return {};
}

Result<BatchReceiver::Outcome> BatchReceiver::on_batch(BatchMessage message) {
  const std::string name = "batch " + std::to_string(message.sequence);
  if (!resumed_) return fail(Errc::corrupt, name + " before the resume");
  if (message.sequence > received_ + 1) {
    return fail(Errc::corrupt, name + " where " + std::to_string(received_ + 1) + " comes next");
  }
  // Repetitions are only looked at, so that a peer that repeats costs no decoding.
  if (message.sequence <= committed_) return Outcome{std::nullopt, Acknowledge{committed_}};
  if (message.sequence <= received_) return Outcome{};

  Incoming incoming;
  incoming.digest = event::batch_digest(message.canonical);
  if (base::as_bytes(incoming.digest) != message.digest) return fail(Errc::corrupt, name + ": wrong digest");
  if (const auto decoded = event::decode_batch(message.canonical, checked_); !decoded) {
    return fail(Errc::corrupt, name + ": " + decoded.error().message);
  }
  incoming.id = event::BatchId{hello_.source, hello_.epoch, message.sequence};
  if (checked_.id != incoming.id) {
    return fail(Errc::corrupt, name + " of " + hello_.source + "/" + event::to_string(hello_.epoch) + " is inside " +
                                   checked_.id.source + "/" + event::to_string(checked_.id.epoch) + " batch " +
                                   std::to_string(checked_.id.sequence));
  }
  incoming.canonical = std::move(message.canonical);
  incoming.scan = std::move(message.scan);
  incoming.events = checked_.events.size();
  incoming.first_event = first_of_now(checked_.events);
  // When an earlier connection brought the first batch already, what is missing came with it.
  auto missing = std::exchange(missing_, std::nullopt);
  if (missing && missing->last_sequence + 1 == message.sequence) incoming.missing = missing;
  received_ = message.sequence;
  return Outcome{std::move(incoming), std::nullopt};
}

Acknowledge BatchReceiver::on_committed(std::uint64_t sequence) {
  committed_ = std::max(committed_, sequence);
  received_ = std::max(received_, committed_);
  return Acknowledge{committed_};
}

}  // namespace daemoneye::ipc
