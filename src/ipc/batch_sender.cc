#include <lz4.h>

#include <algorithm>
#include <utility>

#include "ipc/batch_stream.h"

namespace daemoneye::ipc {

namespace {

// What a held batch costs beside its payload: the objects, the digest and allocator slack.
constexpr std::size_t held_overhead_bytes = 512;

// An event-less batch (a scan alone) takes room in the window too.
std::size_t records_of(std::uint64_t events) { return std::max<std::size_t>(1, static_cast<std::size_t>(events)); }

Result<void> check_version(std::uint32_t version, const std::string& whose) {
  if (version == protocol_version) return {};
  return fail(Errc::invalid_input, whose + " speaks protocol version " + std::to_string(version) +
                                       ", this program speaks " + std::to_string(protocol_version) +
                                       ": install collector and agent of the same release");
}

}  // namespace

Result<void> check_hello(const Hello& hello) {
  return check_version(hello.version, "collector " + hello.source + " (" + hello.program_version + ")");
}

Result<void> check_welcome(const Welcome& welcome) { return check_version(welcome.version, "the agent"); }

BatchSender::BatchSender(std::string source, event::Epoch epoch, Limits limits)
    : source_(std::move(source)), epoch_(epoch), limits_(limits) {}

Result<BatchSender::Prepared> BatchSender::prepare(std::size_t event_count, std::string_view encoded_events,
                                                   std::string scan, Timestamp first_time, Timestamp last_time) {
  if (scan.size() > event::max_scan_bytes) {
    return fail(Errc::invalid_input, "scan of " + std::to_string(scan.size()) + " bytes, at most " +
                                         std::to_string(event::max_scan_bytes) + " are allowed");
  }
  Prepared prepared;
  prepared.message.sequence = next_sequence_;
  DE_TRY(prepared.message.canonical,
         event::encode_batch(event::BatchId{source_, epoch_, next_sequence_}, event_count, encoded_events));
  prepared.digest = event::batch_digest(prepared.message.canonical);
  prepared.message.digest = base::as_bytes(prepared.digest);
  prepared.message.scan = std::move(scan);
  prepared.events = event_count;
  prepared.first_time = first_time;
  prepared.last_time = last_time;
  ++next_sequence_;
  held_bytes_ += prepared.message.canonical.size() + prepared.message.scan.size() + held_overhead_bytes;
  return prepared;
}

Result<void> BatchSender::queue(Prepared prepared) {
  const std::uint64_t expected = held_.empty() ? acknowledged_ + 1 : held_.back().sequence + 1;
  if (prepared.message.sequence != expected) {
    return fail(Errc::internal, "batch " + std::to_string(prepared.message.sequence) + " queued where " +
                                    std::to_string(expected) + " comes next");
  }
  const std::size_t bytes = prepared.message.canonical.size() + prepared.message.scan.size() + held_overhead_bytes;
  held_.push_back(Held{.message = std::move(prepared.message),
                       .packed = {},
                       .canonical_bytes = 0,
                       .scan_bytes = 0,
                       .sequence = expected,
                       .bytes = bytes,
                       .events = prepared.events,
                       .first_time = prepared.first_time,
                       .last_time = prepared.last_time});
  Held& held = held_.back();
  if (plain_bytes_ + bytes > limits_.max_plain_bytes && pack(held)) {
    held_bytes_ -= bytes - held.bytes;
  } else {
    plain_bytes_ += bytes;
  }
  return {};
}

// False when that would not make it smaller.
bool BatchSender::pack(Held& held) {
  auto& batch = std::get<BatchMessage>(held.message);
  std::string both;
  if (!batch.scan.empty()) both = batch.canonical + batch.scan;
  const std::string& plain = batch.scan.empty() ? batch.canonical : both;
  std::string packed(static_cast<std::size_t>(::LZ4_compressBound(static_cast<int>(plain.size()))), '\0');
  const int size = ::LZ4_compress_default(plain.data(), packed.data(), static_cast<int>(plain.size()),
                                          static_cast<int>(packed.size()));
  if (size <= 0 || static_cast<std::size_t>(size) >= plain.size()) return false;
  held.packed.assign(packed, 0, static_cast<std::size_t>(size));  // a copy of its own size
  held.canonical_bytes = batch.canonical.size();
  held.scan_bytes = batch.scan.size();
  held.bytes = held.packed.size() + held_overhead_bytes;
  std::string().swap(batch.canonical);
  std::string().swap(batch.scan);
  return true;
}

Result<Message> BatchSender::unpack(const Held& held) {
  BatchMessage batch = std::get<BatchMessage>(held.message);
  std::string plain(held.canonical_bytes + held.scan_bytes, '\0');
  const int size = ::LZ4_decompress_safe(held.packed.data(), plain.data(), static_cast<int>(held.packed.size()),
                                         static_cast<int>(plain.size()));
  if (size < 0 || static_cast<std::size_t>(size) != plain.size()) {
    return fail(Errc::internal, "batch " + std::to_string(held.sequence) + " was damaged while it was held");
  }
  batch.scan = plain.substr(held.canonical_bytes);
  plain.resize(held.canonical_bytes);
  batch.canonical = std::move(plain);
  return batch;
}

bool BatchSender::has_room(std::size_t bytes) const {
  return held_bytes_ == 0 || held_bytes_ + bytes + held_overhead_bytes <= limits_.max_held_bytes;
}

Hello BatchSender::hello(Timestamp epoch_started, const std::string& program_version, const std::string& host) {
  epoch_started_ = epoch_started;
  return Hello{protocol_version, program_version, source_, epoch_, epoch_started, host};
}

std::optional<Timestamp> BatchSender::oldest_held_time() const {
  if (held_.empty()) return std::nullopt;
  return std::ranges::min_element(held_, {}, &Held::first_time)->first_time;
}

void BatchSender::remember(const Held& held) {
  history_.push_back(Span{held.sequence, held.sequence, held.events, held.first_time, held.last_time});
  if (history_.size() <= max_history_spans) return;
  std::deque<Span> merged;
  const std::size_t older = history_.size() / 2;
  for (std::size_t i = 0; i < history_.size(); ++i) {
    const Span& span = history_[i];
    if (i < older && i % 2 == 1) {
      Span& into = merged.back();
      into.last = span.last;
      into.events += span.events;
      into.from = std::min(into.from, span.from);
      into.to = std::max(into.to, span.to);
    } else {
      merged.push_back(span);
    }
  }
  history_ = std::move(merged);
}

void BatchSender::acknowledge_up_to(std::uint64_t sequence) {
  while (!held_.empty() && held_.front().sequence <= sequence) {
    const Held& front = held_.front();
    if (in_flight_batches_ > 0) {
      --in_flight_batches_;
      in_flight_records_ -= records_of(front.events);
    }
    held_bytes_ -= front.bytes;
    if (front.packed.empty()) plain_bytes_ -= front.bytes;
    acknowledged_ = front.sequence;
    remember(front);
    held_.pop_front();
  }
}

// What this store lacks of what it, or another, has acknowledged; also what it lacks from before this epoch, as far
// as it knows itself.
std::optional<Missing> BatchSender::missing_in(const Welcome& welcome) const {
  std::optional<Missing> missing;
  if (welcome.committed_sequence < acknowledged_) {
    missing = Missing{welcome.committed_sequence + 1, acknowledged_, Timestamp{}, Timestamp{}, 0};
    bool first = true;
    for (const Span& span : history_) {
      if (span.last <= welcome.committed_sequence) continue;
      missing->from = first ? span.from : std::min(missing->from, span.from);
      missing->to = first ? span.to : std::max(missing->to, span.to);
      missing->events += span.events;
      first = false;
    }
  }
  if (welcome.committed_sequence != 0 || !welcome.covered_until) return missing;
  if (!missing && *welcome.covered_until < epoch_started_) {
    missing = Missing{1, 0, *welcome.covered_until, epoch_started_, 0};
  } else if (missing) {
    missing->from = std::min(missing->from, *welcome.covered_until);
  }
  return missing;
}

Result<std::optional<BatchSender::Rollback>> BatchSender::on_welcome(const Welcome& welcome, const Send& send) {
  on_disconnect();
  DE_CHECK(check_welcome(welcome));
  if (welcome.committed_sequence > sent_) {
    return fail(Errc::corrupt, "the agent's store claims batch " + std::to_string(welcome.committed_sequence) +
                                   " of this epoch; the last one sent is " + std::to_string(sent_));
  }
  // Committed, and the acknowledgement was lost with the connection.
  if (welcome.committed_sequence > acknowledged_) acknowledge_up_to(welcome.committed_sequence);

  const auto missing = missing_in(welcome);
  std::optional<Rollback> rollback;
  if (welcome.committed_sequence < acknowledged_) {
    rollback = missing;
  } else if (missing && covered_until_ && *welcome.covered_until < *covered_until_) {
    // Nothing of this epoch is gone, but of earlier ones: the store is older than at the last welcome.
    rollback = missing;
    rollback->to = *covered_until_;
  }
  DE_CHECK(send(Resume{acknowledged_ + 1, missing}));
  connected_ = true;
  window_records_ = welcome.credit_records;
  DE_CHECK(pump(send));

  // Only now, so that what an error kept from the caller is told again.
  if (welcome.committed_sequence == 0 && welcome.covered_until) covered_until_ = welcome.covered_until;
  if (welcome.committed_sequence >= acknowledged_) return rollback;
  const Told told{welcome.store_id, welcome.committed_sequence, acknowledged_};
  if (told_ == told) return std::nullopt;
  told_ = told;
  return rollback;
}

Result<void> BatchSender::on_acknowledge(const Acknowledge& acknowledge, const Send& send) {
  if (!connected_) return fail(Errc::corrupt, "acknowledgement before the welcome");
  if (acknowledge.sequence > sent_) {
    return fail(Errc::corrupt, "batch " + std::to_string(acknowledge.sequence) +
                                   " acknowledged; the last one sent is " + std::to_string(sent_));
  }
  acknowledge_up_to(acknowledge.sequence);
  return pump(send);
}

void BatchSender::on_disconnect() {
  connected_ = false;
  window_records_ = 0;
  in_flight_batches_ = 0;
  in_flight_records_ = 0;
}

Result<void> BatchSender::pump(const Send& send) {
  while (connected_ && in_flight_batches_ < held_.size()) {
    const Held& next = held_[in_flight_batches_];
    const std::size_t records = records_of(next.events);
    // A batch larger than the whole window goes alone.
    if (in_flight_batches_ > 0 && in_flight_records_ + records > window_records_) return {};
    if (next.packed.empty()) {
      DE_CHECK(send(next.message));
    } else {
      DE_TRY(const Message plain, unpack(next));
      DE_CHECK(send(plain));
    }
    ++in_flight_batches_;
    in_flight_records_ += records;
    sent_ = std::max(sent_, next.sequence);
  }
  return {};
}

}  // namespace daemoneye::ipc
