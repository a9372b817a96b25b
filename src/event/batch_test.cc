#include "event/batch.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "base/bytes.h"
#include "event/event_codec.h"
#include "event/event_view.h"
#include "event/testing/random_event.h"

namespace daemoneye::event {
namespace {

using testing::RandomEvents;

Batch sample(std::size_t events = 1) {
  Batch batch;
  batch.id = {"procmond", Epoch{1, 2, 3}, 7};
  RandomEvents random(3, /*hostile=*/false);
  while (batch.events.size() < events) batch.events.push_back(random.next());
  return batch;
}

ProcessEvent exec_event() {
  ProcessEvent event;
  event.time.ns = 1'790'000'000'000'000'000;
  event.process.collection_time = event.time;
  event.process.key.pid = 42;
  event.process.name = "sleep";
  return event;
}

std::string encoded(const Batch& batch) {
  const auto bytes = encode_batch(batch);
  EXPECT_TRUE(bytes) << (bytes ? "" : bytes.error().message);
  return bytes.value_or("");
}

// A view, as the event of its own that it stands for.
ProcessEvent event_of(const EventView& view) {
  const auto text = [](const std::optional<std::string_view>& seen) {
    return seen ? std::optional<std::string>(*seen) : std::nullopt;
  };
  const auto& from = view.process;
  ProcessEvent event;
  event.time = view.time;
  event.kind = view.kind;
  event.source = view.source;
  event.detail = view.detail;
  auto& to = event.process;
  to.key = from.key;
  to.ppid = from.ppid;
  to.parent_key = from.parent_key;
  to.name = from.name;
  to.comm = text(from.comm);
  to.executable_path = text(from.executable_path);
  if (from.arguments) to.arguments = Arguments::from_nul_separated(from.arguments->bytes);
  to.cwd = text(from.cwd);
  to.uid = from.uid;
  to.gid = from.gid;
  to.euid = from.euid;
  to.loginuid = from.loginuid;
  to.user = text(from.user);
  to.session_id = from.session_id;
  to.tty = text(from.tty);
  to.start_time = from.start_time;
  to.exit_time = from.exit_time;
  to.exit_code = from.exit_code;
  to.exit_signal = from.exit_signal;
  to.cpu_usage = from.cpu_usage;
  to.memory_usage = from.memory_usage;
  to.status = from.status;
  if (from.executable_hash) to.executable_hash = base::to_hex(*from.executable_hash);
  to.executable_state = from.executable_state;
  to.cgroup = text(from.cgroup);
  to.container_id = text(from.container_id);
  to.collection_time = from.collection_time;
  to.scan_id = from.scan_id;
  event.parent_name = text(view.parent_name);
  event.parent_executable_path = text(view.parent_executable_path);
  event.parent_command_line = text(view.parent_command_line);
  return event;
}

// The one event of a batch with these body bytes, as the decoder sees it.
Result<Batch> decode_body(std::string_view body) {
  std::string bytes("DEB\x01");
  base::ByteWriter out(bytes);
  out.bytes("p");
  out.raw(std::string(16, '\0'));
  out.varint(1);
  out.varint(1);
  out.bytes(body);
  return decode_batch(bytes);
}

// Bitmap, time, kind, source; what follows is the caller's.
std::string body_begin(std::uint64_t bits, std::uint8_t kind = 1, std::uint8_t source = 3) {
  std::string body;
  base::ByteWriter out(body);
  out.varint(bits);
  out.u64(0);
  out.u8(kind);
  out.u8(source);
  return body;
}

std::string key_and_name() {
  std::string bytes;
  base::ByteWriter out(bytes);
  out.raw(std::string(16, '\0'));
  out.varint(1);
  out.varint(2);
  return bytes;
}

TEST(Batch, RandomEventsComeBackBitForBit) {
  RandomEvents random(1);
  for (int round = 0; round < 500; ++round) {
    Batch batch;
    batch.id.source = "procmond";
    batch.id.sequence = random.number(1, std::numeric_limits<std::uint64_t>::max());
    batch.id.epoch.fill(static_cast<std::uint8_t>(round));
    for (std::uint64_t n = random.number(0, 20); n > 0; --n) batch.events.push_back(random.next());
    const auto bytes = encode_batch(batch);
    ASSERT_TRUE(bytes);
    const auto decoded = decode_batch(*bytes);
    ASSERT_TRUE(decoded) << decoded.error().message;
    ASSERT_EQ(*decoded, batch);
    ASSERT_EQ(encode_batch(*decoded).value(), *bytes);
  }
}

// The layout is a promise: stored batches and their digests outlive the program that wrote them.
TEST(Batch, EncodingOfAKnownBatchNeverChanges) {
  Batch batch;
  batch.id.source = "p";
  batch.id.epoch.fill(0xee);
  batch.id.sequence = 300;
  auto event = exec_event();
  event.time.ns = 1000;
  event.process.collection_time.ns = 999;
  event.process.arguments = Arguments::from_list({"sleep", "1"});
  event.process.uid = 1000;
  batch.events = {event,
                  make_gap_event({"events_lost", Timestamp{1}, Timestamp{2}, 3}, EventSource::ebpf, Timestamp{5})};
  EXPECT_EQ(base::to_hex(encoded(batch)),
            "44454201"
            "0170"
            "eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee"
            "ac02"
            "02"
            "31"
            "a001"
            "e803000000000000"
            "01"
            "03"
            "00000000000000000000000000000000"
            "2a"
            "00"
            "05736c656570"
            "08736c6565700031"
            "00"
            "e807"
            "01"
            "01"
            "3f"
            "01"
            "0500000000000000"
            "05"
            "01"
            "327b22726561736f6e223a226576656e74735f6c6f7374222c2266726f6d223a312c22746f223a322c22636f756e74223a337d"
            "00");
}

TEST(Batch, EqualEventsGiveEqualBytes) {
  auto a = exec_event(), b = exec_event();
  a.process.cpu_usage = 0.0;
  b.process.cpu_usage = -0.0;
  ASSERT_EQ(a, b);
  std::string bytes_a, bytes_b;
  encode_event(a, bytes_a);
  encode_event(b, bytes_b);
  EXPECT_EQ(bytes_a, bytes_b);
}

TEST(Batch, ValuesThatNoColumnCanHoldTravelAsUnknown) {
  auto batch = sample(0);
  for (const double cpu : {std::nan(""), std::numeric_limits<double>::infinity()}) {
    auto event = exec_event();
    event.process.cpu_usage = cpu;
    event.process.memory_usage = std::numeric_limits<std::uint64_t>::max();
    event.process.scan_id = std::numeric_limits<std::uint64_t>::max();
    event.process.executable_hash = "not a digest";
    batch.events.push_back(event);
  }
  const auto decoded = decode_batch(encoded(batch));
  ASSERT_TRUE(decoded) << decoded.error().message;
  for (const auto& event : decoded->events) EXPECT_EQ(event, exec_event());
}

TEST(Batch, TextAboveTheBoundIsCutThere) {
  auto batch = sample(0);
  auto event = exec_event();
  event.process.cwd = std::string(max_text_bytes + 1, 'x');
  event.process.arguments = Arguments::from_list({std::string(max_text_bytes, 'y')});
  batch.events.push_back(event);
  const auto decoded = decode_batch(encoded(batch));
  ASSERT_TRUE(decoded) << decoded.error().message;
  EXPECT_EQ(decoded->events[0].process.cwd, std::string(max_text_bytes, 'x'));
  EXPECT_EQ(decoded->events[0].process.arguments->command_line(), std::string(max_text_bytes - 1, 'y'));
}

TEST(Batch, TheLargestEventFitsABatch) {
  auto batch = sample(0);
  auto event = exec_event();
  const std::string longest(max_text_bytes, 'x');
  event.detail = longest;
  auto& process = event.process;
  process.name = longest;
  for (auto* text :
       {&process.comm, &process.executable_path, &process.cwd, &process.user, &process.tty, &process.cgroup,
        &process.container_id, &event.parent_name, &event.parent_executable_path, &event.parent_command_line}) {
    *text = longest;
  }
  process.arguments = Arguments::from_nul_separated(longest);
  batch.events.push_back(event);
  EXPECT_TRUE(encode_batch(batch));
}

TEST(Batch, GapCarriesNoProcess) {
  auto batch = sample(0);
  auto event = make_gap_event({"events_lost", Timestamp{1}, Timestamp{2}, 3}, EventSource::ebpf, Timestamp{9});
  const auto bare = event;
  event.process.name = "ignored";
  event.process.uid = 0;
  event.parent_name = "ignored";
  batch.events.push_back(event);
  const auto decoded = decode_batch(encoded(batch));
  ASSERT_TRUE(decoded) << decoded.error().message;
  EXPECT_EQ(decoded->events[0], bare);
}

TEST(Batch, RefusesToEncodeWhatTheDecoderWouldRefuse) {
  auto batch = sample();
  batch.id.sequence = 0;
  EXPECT_FALSE(encode_batch(batch));
  batch = sample();
  batch.id.source.clear();
  EXPECT_FALSE(encode_batch(batch));
  batch.id.source.assign(max_source_bytes + 1, 's');
  EXPECT_FALSE(encode_batch(batch));
  batch = sample();
  auto big = exec_event();
  big.process.cwd = std::string(max_text_bytes, 'x');
  batch.events.assign(max_batch_bytes / max_text_bytes, big);
  const auto too_large = encode_batch(batch);
  ASSERT_FALSE(too_large);
  EXPECT_EQ(too_large.error().code, Errc::limit_exceeded);
  EXPECT_FALSE(encode_batch(sample().id, max_batch_events + 1, ""));
}

TEST(Batch, FromPiecesIsTheSameAsFromEvents) {
  const auto batch = sample(5);
  std::string pieces;
  for (const auto& event : batch.events) encode_event(event, pieces);
  EXPECT_EQ(encode_batch(batch.id, 5, pieces).value(), encoded(batch));
  EXPECT_EQ(encode_batch(batch.id, 4, pieces).error().code, Errc::internal);
  EXPECT_EQ(encode_batch(batch.id, 6, pieces).error().code, Errc::internal);
  EXPECT_EQ(encode_batch(batch.id, 5, pieces.substr(1)).error().code, Errc::internal);
}

TEST(Batch, EveryTruncationIsAnError) {
  const auto bytes = encoded(sample(3));
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    const auto decoded = decode_batch(std::string_view(bytes).substr(0, size));
    ASSERT_FALSE(decoded) << size;
    ASSERT_EQ(decoded.error().code, Errc::corrupt);
  }
  EXPECT_FALSE(decode_batch(bytes + '\0'));
}

TEST(Batch, AnyChangedByteIsRefusedOrIsAnotherBatch) {
  const auto batch = sample(2);
  const auto bytes = encoded(batch);
  for (std::size_t at = 0; at < bytes.size(); ++at) {
    auto changed = bytes;
    changed[at] = static_cast<char>(changed[at] ^ 0x11);
    const auto decoded = decode_batch(changed);
    if (!decoded) continue;
    ASSERT_NE(*decoded, batch) << at;
    ASSERT_EQ(encoded(*decoded), changed) << at;
  }
}

TEST(Batch, CountIsCheckedAgainstTheBytesBeforeAllocating) {
  std::string bytes("DEB\x01");
  base::ByteWriter out(bytes);
  out.bytes("p");
  out.raw(std::string(16, '\0'));
  out.varint(1);
  out.varint(60000);
  const auto decoded = decode_batch(bytes);
  ASSERT_FALSE(decoded);
  EXPECT_NE(decoded.error().message.find("60000 events cannot fit"), std::string::npos) << decoded.error().message;
}

TEST(Batch, ErrorsNameTheEventTheByteAndTheColumn) {
  const auto bad_kind = decode_body(body_begin(0, 9) + key_and_name());
  ASSERT_FALSE(bad_kind);
  EXPECT_EQ(bad_kind.error().message, "batch: event 0 at byte 24: kind: unknown value 9");
  const auto bad_source = decode_body(body_begin(0, 1, 0) + key_and_name());
  ASSERT_FALSE(bad_source);
  EXPECT_EQ(bad_source.error().message, "batch: event 0 at byte 24: source: unknown value 0");

  std::string long_name = body_begin(0) + key_and_name();
  base::ByteWriter(long_name).varint(max_text_bytes + 1);
  const auto too_long = decode_body(long_name);
  ASSERT_FALSE(too_long);
  EXPECT_EQ(too_long.error().message, "batch: event 0 at byte 24: name: text of 65537 bytes, at most 65536");
}

TEST(Batch, RefusesASecondEncodingOfTheSameValue) {
  // A text that is marked present but empty, where empty means absent.
  std::string detail = body_begin(1);
  detail += '\0';
  EXPECT_NE(decode_body(detail).error().message.find("detail: present but empty"), std::string::npos);
  // Arguments without their last NUL (bit 5: detail, ppid, parent_key, comm, executable_path, arguments).
  std::string arguments = body_begin(1 << 5) + key_and_name();
  base::ByteWriter out(arguments);
  out.bytes("n");
  out.bytes("ls");
  EXPECT_NE(decode_body(arguments).error().message.find("arguments: does not end in NUL"), std::string::npos);
  // A parent whose boot id is spelled out though it is the process's own (bit 2).
  std::string parent = body_begin(1 << 2) + key_and_name();
  parent += '\1' + std::string(16, '\0') + "\x01\x01";
  EXPECT_NE(decode_body(parent).error().message.find("parent_key"), std::string::npos);
  // A varint longer than needed: the name's length.
  std::string varint = body_begin(0) + key_and_name();
  varint += std::string("\x81\x00", 2) + "n";
  EXPECT_NE(decode_body(varint).error().message.find("name: short or malformed"), std::string::npos);
  // Minus zero and NaN (bit 18: cpu_usage).
  for (const double cpu : {-0.0, std::nan("")}) {
    std::string body = body_begin(1 << 18) + key_and_name();
    base::ByteWriter writer(body);
    writer.bytes("n");
    writer.f64(cpu);
    EXPECT_NE(decode_body(body).error().message.find("cpu_usage: not a canonical number"), std::string::npos);
  }
}

TEST(Batch, RefusesFieldsItDoesNotKnow) {
  std::string body = body_begin(std::uint64_t{1} << 40) + key_and_name() + std::string("\x01n\x01\x00", 4);
  const auto decoded = decode_body(body);
  ASSERT_FALSE(decoded);
  EXPECT_NE(decoded.error().message.find("newer version"), std::string::npos) << decoded.error().message;
  // A gap with a process field.
  EXPECT_FALSE(decode_body(body_begin(2, 5) + std::string(1, '\0')));
}

TEST(Batch, DigestIsSha256OfTheBytes) {
  EXPECT_EQ(base::to_hex(batch_digest("abc")), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST(Epoch, TextComesBack) {
  Epoch epoch{0xab, 1};
  EXPECT_EQ(to_string(epoch), "ab010000000000000000000000000000");
  EXPECT_EQ(parse_epoch(to_string(epoch)).value(), epoch);
  for (const auto* bad : {"", "ab", "ab0100000000000000000000000000000", "zb010000000000000000000000000000",
                          "ab01000000000000000000000000000000"}) {
    EXPECT_FALSE(parse_epoch(bad)) << bad;
  }
}

TEST(Scan, SummaryComesBack) {
  RandomEvents random(5);
  ScanSummary scan;
  scan.scan_id = 9;
  scan.time.ns = -1;
  scan.duration_ms = 40;
  scan.source = "procfs";
  scan.processes = 300;
  scan.errors = 1;
  scan.lost_events = std::numeric_limits<std::uint64_t>::max();
  for (int i = 0; i < 300; ++i) {
    LiveUpdate update;
    update.key = random.key();
    if (random.maybe()) update.cpu_usage = 12.5;
    if (random.maybe()) update.memory_usage = random.number(0, 1 << 30);
    update.status = static_cast<ProcessStatus>(random.number(1, 5));
    scan.updates.push_back(update);
  }
  const auto bytes = encode_scan(scan);
  const auto decoded = decode_scan(bytes);
  ASSERT_TRUE(decoded) << decoded.error().message;
  EXPECT_EQ(*decoded, scan);
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    ASSERT_FALSE(decode_scan(std::string_view(bytes).substr(0, size))) << size;
  }
  EXPECT_FALSE(decode_scan(bytes + 'x'));
}

TEST(BatchView, ShowsWhatDecodingGives) {
  RandomEvents random(11);
  BatchView view;  // used again: nothing of the batch before may be left
  for (int round = 0; round < 200; ++round) {
    Batch batch;
    batch.id = {"procmond", Epoch{1, 2, 3}, 7};
    for (std::uint64_t i = random.number(0, 5); i > 0; --i) batch.events.push_back(random.next());
    const auto bytes = encoded(batch);
    const auto whole = decode_batch(bytes);
    ASSERT_TRUE(whole);
    ASSERT_TRUE(decode_batch(bytes, view));
    EXPECT_EQ(view.id, whole->id);
    ASSERT_EQ(view.events.size(), whole->events.size());
    for (std::size_t i = 0; i < view.events.size(); ++i) {
      EXPECT_EQ(event_of(view.events[i]), whole->events[i]);
      std::string event_bytes;
      encode_event(whole->events[i], event_bytes);
      EXPECT_EQ(view.events[i].bytes, event_bytes);
    }
  }
}

TEST(BatchView, RefusesWhatDecodingRefuses) {
  auto bytes = encoded(sample(3));
  BatchView view;
  for (std::size_t at = 0; at < bytes.size(); ++at) {
    auto damaged = bytes;
    damaged[at] = static_cast<char>(damaged[at] ^ 0x81);
    const auto whole = decode_batch(damaged);
    const auto viewed = decode_batch(damaged, view);
    ASSERT_EQ(viewed.has_value(), whole.has_value()) << "byte " << at;
    if (!whole) {
      EXPECT_EQ(viewed.error().message, whole.error().message);
    }
  }
}

}  // namespace
}  // namespace daemoneye::event
