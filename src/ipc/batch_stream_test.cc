#include "ipc/batch_stream.h"

#include <gtest/gtest.h>

#include "ipc/test_batches.h"

namespace daemoneye::ipc {
namespace {

using testing::encoded_events;

constexpr event::Epoch some_epoch{1, 2, 3};

struct Sender {
  BatchSender sender{"procmond", some_epoch, {}};
  std::vector<Message> wire;
  BatchSender::Send send = [this](const Message& message) -> Result<void> {
    wire.push_back(message);
    return {};
  };

  // One batch of `events`, whose times are sequence * 1000 and on.
  BatchSender::Prepared prepare(std::size_t events, const std::string& scan = "") {
    const auto first = static_cast<std::int64_t>(sender.next_sequence() * 1000);
    auto prepared = sender.prepare(events, encoded_events(events, first), scan, Timestamp{first},
                                   Timestamp{first + static_cast<std::int64_t>(events)});
    EXPECT_TRUE(prepared) << prepared.error().message;
    return std::move(*prepared);
  }
  void add(std::size_t events, const std::string& scan = "") { ASSERT_TRUE(sender.queue(prepare(events, scan))); }

  Result<std::optional<BatchSender::Rollback>> welcome(std::uint64_t committed, std::uint32_t credit = 1000,
                                                       const std::string& store = "A",
                                                       std::optional<Timestamp> covered = std::nullopt) {
    wire.clear();
    return sender.on_welcome(Welcome{protocol_version, store, committed, credit, covered}, send);
  }
  Result<void> acknowledge(std::uint64_t sequence) { return sender.on_acknowledge(Acknowledge{sequence}, send); }

  [[nodiscard]] std::vector<std::uint64_t> sent() const {
    std::vector<std::uint64_t> sequences;
    for (const auto& message : wire) {
      if (const auto* batch = std::get_if<BatchMessage>(&message)) sequences.push_back(batch->sequence);
    }
    return sequences;
  }
  [[nodiscard]] Resume resume() const {
    const auto* resume = wire.empty() ? nullptr : std::get_if<Resume>(&wire.front());
    EXPECT_NE(resume, nullptr) << "the answer to a welcome begins with a resume";
    return resume != nullptr ? *resume : Resume{};
  }
};

using Sequences = std::vector<std::uint64_t>;

TEST(BatchSender, SendsNothingBeforeTheWelcome) {
  Sender s;
  s.add(1);
  ASSERT_TRUE(s.sender.pump(s.send));
  EXPECT_TRUE(s.wire.empty());
  ASSERT_TRUE(s.welcome(0));
  EXPECT_EQ(s.resume().first_sequence, 1u);
  EXPECT_FALSE(s.resume().missing);
  EXPECT_EQ(s.sent(), Sequences{1});
}

TEST(BatchSender, NumbersWithoutHolesAndDigestsTheCanonicalBytes) {
  Sender s;
  for (std::uint64_t n = 1; n <= 3; ++n) {
    const auto prepared = s.prepare(2);
    EXPECT_EQ(prepared.message.sequence, n);
    EXPECT_EQ(prepared.digest, base::sha256(prepared.message.canonical));
    EXPECT_EQ(prepared.message.digest, base::as_bytes(prepared.digest));
    const auto decoded = event::decode_batch(prepared.message.canonical);
    ASSERT_TRUE(decoded);
    EXPECT_EQ(decoded->id, (event::BatchId{"procmond", some_epoch, n}));
  }
}

TEST(BatchSender, RefusesWhatIsTooLargeWithoutUsingUpANumber) {
  Sender s;
  EXPECT_FALSE(s.sender.prepare(1, std::string(event::max_batch_bytes + 1, 'x'), "", {}, {}));
  EXPECT_FALSE(s.sender.prepare(0, "", std::string(event::max_scan_bytes + 1, 'x'), {}, {}));
  EXPECT_EQ(s.sender.next_sequence(), 1u);
  EXPECT_EQ(s.sender.held_bytes(), 0u);
}

TEST(BatchSender, RefusesBatchesOutOfOrder) {
  Sender s;
  auto first = s.prepare(1);
  auto second = s.prepare(1);
  const auto queued = s.sender.queue(std::move(second));
  ASSERT_FALSE(queued);
  EXPECT_EQ(queued.error().code, Errc::internal);
  EXPECT_TRUE(s.sender.queue(std::move(first)));
}

TEST(BatchSender, HoldsWhatWaitsCompressedAndSendsItAsItWas) {
  BatchSender packed{"procmond", some_epoch, {.max_held_bytes = 16 * 1024 * 1024, .max_plain_bytes = 0}};
  Sender plain;
  for (int i = 0; i < 3; ++i) {
    const auto first = static_cast<std::int64_t>(packed.next_sequence() * 1000);
    const std::string scan(i == 1 ? 5000 : 0, 's');
    auto prepared = packed.prepare(100, encoded_events(100, first), scan, Timestamp{first}, Timestamp{first + 100});
    ASSERT_TRUE(prepared);
    ASSERT_TRUE(packed.queue(std::move(*prepared)));
    plain.add(100, scan);
  }
  EXPECT_LT(packed.held_bytes(), plain.sender.held_bytes() / 2);
  ASSERT_TRUE(plain.welcome(0));
  const auto expected = plain.wire;
  plain.wire.clear();
  for (int connection = 0; connection < 2; ++connection) {  // again after a broken one
    plain.wire.clear();
    ASSERT_TRUE(packed.on_welcome(Welcome{protocol_version, "A", 0, 1000, std::nullopt}, plain.send));
    ASSERT_EQ(plain.wire.size(), expected.size());
    for (std::size_t i = 1; i < expected.size(); ++i) {
      EXPECT_EQ(std::get<BatchMessage>(plain.wire[i]).canonical, std::get<BatchMessage>(expected[i]).canonical);
      EXPECT_EQ(std::get<BatchMessage>(plain.wire[i]).scan, std::get<BatchMessage>(expected[i]).scan);
    }
  }
  ASSERT_TRUE(packed.on_acknowledge(Acknowledge{3}, plain.send));
  EXPECT_EQ(packed.held_bytes(), 0u);
}

TEST(BatchSender, KeepsToTheWindow) {
  Sender s;
  for (int i = 0; i < 5; ++i) s.add(4);
  ASSERT_TRUE(s.welcome(0, 10));
  EXPECT_EQ(s.sent(), (Sequences{1, 2}));  // 12 would be too many
  EXPECT_EQ(s.sender.in_flight_records(), 8u);
  ASSERT_TRUE(s.acknowledge(1));
  EXPECT_EQ(s.sent(), (Sequences{1, 2, 3}));
  ASSERT_TRUE(s.acknowledge(3));  // cumulative
  EXPECT_EQ(s.sent(), (Sequences{1, 2, 3, 4, 5}));
  ASSERT_TRUE(s.acknowledge(5));
  EXPECT_TRUE(s.sender.all_acknowledged());
  EXPECT_EQ(s.sender.held_bytes(), 0u);
  EXPECT_EQ(s.sender.in_flight_records(), 0u);
}

TEST(BatchSender, SendsABatchLargerThanTheWindowAlone) {
  Sender s;
  s.add(50);
  s.add(1);
  ASSERT_TRUE(s.welcome(0, 10));
  EXPECT_EQ(s.sent(), Sequences{1});
  ASSERT_TRUE(s.acknowledge(1));
  EXPECT_EQ(s.sent(), (Sequences{1, 2}));
}

TEST(BatchSender, GoesOnEvenWithoutCredit) {
  Sender s;
  s.add(1);
  s.add(1);
  ASSERT_TRUE(s.welcome(0, 0));
  EXPECT_EQ(s.sent(), Sequences{1});
  ASSERT_TRUE(s.acknowledge(1));
  EXPECT_EQ(s.sent(), (Sequences{1, 2}));
}

TEST(BatchSender, CountsAScanAloneAsOneRecord) {
  Sender s;
  for (int i = 0; i < 4; ++i) s.add(0, "scan");
  ASSERT_TRUE(s.welcome(0, 2));
  EXPECT_EQ(s.sent(), (Sequences{1, 2}));
}

TEST(BatchSender, SendsAgainInOrderWhatWasNotCommitted) {
  Sender s;
  for (int i = 0; i < 4; ++i) s.add(1);
  ASSERT_TRUE(s.welcome(0));
  ASSERT_TRUE(s.acknowledge(1));
  s.sender.on_disconnect();
  const auto rollback = s.welcome(2);  // the acknowledgement of 2 was lost
  ASSERT_TRUE(rollback);
  EXPECT_FALSE(*rollback);
  EXPECT_EQ(s.resume().first_sequence, 3u);
  EXPECT_FALSE(s.resume().missing);
  EXPECT_EQ(s.sent(), (Sequences{3, 4}));
  EXPECT_EQ(s.sender.acknowledged_sequence(), 2u);
}

TEST(BatchSender, TellsWhatAnOlderStoreLacks) {
  Sender s;
  for (std::size_t i = 1; i <= 6; ++i) s.add(i);
  ASSERT_TRUE(s.welcome(0));
  ASSERT_TRUE(s.acknowledge(5));
  const auto rollback = s.welcome(2);
  ASSERT_TRUE(rollback);
  ASSERT_TRUE(*rollback);
  EXPECT_EQ(**rollback, (Missing{3, 5, Timestamp{3000}, Timestamp{5005}, 3 + 4 + 5}));
  EXPECT_EQ(s.resume().first_sequence, 6u);
  EXPECT_EQ(s.resume().missing, **rollback);
  EXPECT_EQ(s.sent(), Sequences{6});
}

TEST(BatchSender, TellsARollbackOnceButTheStoreEachTime) {
  Sender s;
  for (int i = 0; i < 3; ++i) s.add(1);
  ASSERT_TRUE(s.welcome(0));
  ASSERT_TRUE(s.acknowledge(3));
  ASSERT_TRUE((*s.welcome(1)).has_value());
  EXPECT_FALSE((*s.welcome(1)).has_value());
  EXPECT_TRUE(s.resume().missing);
  EXPECT_TRUE((*s.welcome(0)).has_value());  // older still
}

TEST(BatchSender, TellsARollbackAgainWhenTheCallerDidNotLearnOfIt) {
  Sender s;
  s.add(1);
  ASSERT_TRUE(s.welcome(0));
  ASSERT_TRUE(s.acknowledge(1));
  const auto broken =
      s.sender.on_welcome(Welcome{protocol_version, "B", 0, 10, {}},
                          [](const Message&) -> Result<void> { return fail(Errc::unavailable, "gone"); });
  ASSERT_FALSE(broken);
  EXPECT_EQ(broken.error().message, "gone");
  EXPECT_TRUE((*s.welcome(0, 10, "B")).has_value());
}

TEST(BatchSender, TakesANewStoreAsOneThatLacksEverything) {
  Sender s;
  s.add(2);
  s.add(3);
  ASSERT_TRUE(s.welcome(0, 1000, "A"));
  ASSERT_TRUE(s.acknowledge(2));
  const auto rollback = s.welcome(0, 1000, "B");
  ASSERT_TRUE(rollback && *rollback);
  EXPECT_EQ(**rollback, (Missing{1, 2, Timestamp{1000}, Timestamp{2003}, 5}));
  s.add(1);
  ASSERT_TRUE(s.sender.pump(s.send));
  EXPECT_EQ(s.sent(), Sequences{3});
  ASSERT_TRUE(s.acknowledge(3));
  // The first store comes back: it has 1 and 2, and lacks 3.
  const auto back = s.welcome(2, 1000, "A");
  ASSERT_TRUE(back && *back);
  EXPECT_EQ(**back, (Missing{3, 3, Timestamp{3000}, Timestamp{3001}, 1}));
}

TEST(BatchSender, ReachesBackToWhereTheStoreEndsWhenItHoldsNothingOfThisEpoch) {
  Sender s;
  static_cast<void>(s.sender.hello(Timestamp{900}, "0.1.0", "host"));
  s.add(1);
  // The usual start of an epoch: the store is whole until 500, and nobody watched from there to 900.
  auto rollback = s.welcome(0, 1000, "A", Timestamp{500});
  ASSERT_TRUE(rollback);
  EXPECT_FALSE(*rollback);
  EXPECT_EQ(s.resume().missing, (Missing{1, 0, Timestamp{500}, Timestamp{900}, 0}));
  // An older copy before anything of this epoch was acknowledged: what lies between is gone.
  rollback = s.welcome(0, 1000, "A", Timestamp{300});
  ASSERT_TRUE(rollback && *rollback);
  EXPECT_EQ(**rollback, (Missing{1, 0, Timestamp{300}, Timestamp{500}, 0}));
  EXPECT_EQ(s.resume().missing, (Missing{1, 0, Timestamp{300}, Timestamp{900}, 0}));
  ASSERT_TRUE(s.acknowledge(1));
  // And after.
  rollback = s.welcome(0, 1000, "A", Timestamp{200});
  ASSERT_TRUE(rollback && *rollback);
  EXPECT_EQ(**rollback, (Missing{1, 1, Timestamp{200}, Timestamp{1001}, 1}));
}

TEST(BatchSender, RefusesAStoreThatClaimsWhatWasNeverSent) {
  Sender s;
  s.add(1);
  s.add(1);
  ASSERT_TRUE(s.welcome(0, 1));  // sends the first alone
  const auto refused = s.welcome(2);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::corrupt);
  EXPECT_EQ(refused.error().message, "the agent's store claims batch 2 of this epoch; the last one sent is 1");
  EXPECT_EQ(s.sender.held_batches(), 2u);
}

TEST(BatchSender, RefusesAnAcknowledgementOfWhatWasNotSent) {
  Sender s;
  s.add(1);
  s.add(1);
  EXPECT_FALSE(s.acknowledge(1));  // not even welcomed
  ASSERT_TRUE(s.welcome(0, 1));
  const auto refused = s.acknowledge(2);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().message, "batch 2 acknowledged; the last one sent is 1");
}

TEST(BatchSender, RefusesAnotherProtocolVersion) {
  Sender s;
  const auto refused = s.sender.on_welcome(Welcome{2, "A", 0, 10, {}}, s.send);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().message,
            "the agent speaks protocol version 2, this program speaks 1: install collector and agent of the same "
            "release");
  EXPECT_FALSE(s.sender.connected());
  Hello hello = s.sender.hello({}, "9.9.9", "host");
  EXPECT_TRUE(check_hello(hello));
  hello.version = 3;
  EXPECT_EQ(check_hello(hello).error().message,
            "collector procmond (9.9.9) speaks protocol version 3, this program speaks 1: install collector and agent "
            "of the same release");
}

TEST(BatchSender, HoldsNoMoreThanItsLimit) {
  BatchSender sender("procmond", some_epoch, BatchSender::Limits{100'000});
  const std::string scan(10'000, 's');
  std::size_t batches = 0;
  while (sender.has_room(scan.size() + 100)) {
    auto prepared = sender.prepare(0, "", scan, {}, {});
    ASSERT_TRUE(prepared);
    // What is prepared counts, queued or not.
    if (++batches % 2 == 0) continue;
  }
  EXPECT_EQ(batches, 9u);
  EXPECT_GE(sender.held_bytes(), batches * scan.size());
  EXPECT_LE(sender.held_bytes(), 100'000u);
}

TEST(BatchSender, HasRoomForOneBatchOfAnySize) {
  const BatchSender sender("procmond", some_epoch, BatchSender::Limits{10});
  EXPECT_TRUE(sender.has_room(1'000'000));
}

TEST(BatchSender, DescribesAnOldRollbackCoarselyAndARecentOneExactly) {
  Sender s;
  ASSERT_TRUE(s.welcome(0, 1'000'000));
  constexpr std::uint64_t count = BatchSender::max_history_spans * 3;
  for (std::uint64_t i = 0; i < count; ++i) {
    s.add(1);
    ASSERT_TRUE(s.sender.pump(s.send));
    s.wire.clear();
    ASSERT_TRUE(s.acknowledge(i + 1));
  }
  const auto recent = s.welcome(count - 100);
  ASSERT_TRUE(recent && *recent);
  EXPECT_EQ((*recent)->events, 100u);
  EXPECT_EQ((*recent)->from, (Timestamp{static_cast<std::int64_t>((count - 99) * 1000)}));
  // Never less than what is gone, and the sequences are exact at any age.
  for (std::uint64_t committed : {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{777}, count / 2}) {
    const auto old = s.welcome(committed);
    ASSERT_TRUE(old && *old);
    EXPECT_EQ((*old)->first_sequence, committed + 1);
    EXPECT_EQ((*old)->last_sequence, count);
    EXPECT_GE((*old)->events, count - committed);
    EXPECT_LE((*old)->events, count);
    EXPECT_LE((*old)->from, (Timestamp{static_cast<std::int64_t>((committed + 1) * 1000)}));
  }
}

struct Receiver {
  Sender s;
  BatchReceiver receiver;

  explicit Receiver(std::uint64_t committed = 0) : receiver(s.sender.hello(Timestamp{1}, "0.1.0", "host"), committed) {}
  BatchMessage next() { return s.prepare(1).message; }
};

void expect_corrupt(const Result<BatchReceiver::Outcome>& outcome, const std::string& why) {
  ASSERT_FALSE(outcome);
  EXPECT_EQ(outcome.error().code, Errc::corrupt);
  EXPECT_NE(outcome.error().message.find(why), std::string::npos) << outcome.error().message;
}

TEST(BatchReceiver, HandsEachBatchOnOnce) {
  Receiver r;
  ASSERT_TRUE(r.receiver.on_resume(Resume{1, {}}));
  const auto first = r.next();
  const auto outcome = r.receiver.on_batch(first);
  ASSERT_TRUE(outcome && outcome->batch);
  EXPECT_EQ(outcome->batch->id.sequence, 1u);
  EXPECT_EQ(outcome->batch->canonical, first.canonical);
  EXPECT_EQ(event::decode_batch(outcome->batch->canonical)->events.size(), 1u);
  // Again before the commit: neither handed on nor acknowledged.
  const auto early = r.receiver.on_batch(first);
  ASSERT_TRUE(early);
  EXPECT_FALSE(early->batch);
  EXPECT_FALSE(early->again);
  EXPECT_EQ(r.receiver.on_committed(1).sequence, 1u);
  // And after: acknowledged.
  const auto late = r.receiver.on_batch(first);
  ASSERT_TRUE(late);
  EXPECT_FALSE(late->batch);
  ASSERT_TRUE(late->again);
  EXPECT_EQ(late->again->sequence, 1u);
}

TEST(BatchReceiver, AcknowledgesAgainWhatTheStoreHeldBefore) {
  Receiver r(1);
  const auto first = r.next(), second = r.next();
  ASSERT_TRUE(r.receiver.on_resume(Resume{2, {}}));
  const auto repeated = r.receiver.on_batch(first);
  ASSERT_TRUE(repeated && repeated->again);
  EXPECT_EQ(repeated->again->sequence, 1u);
  EXPECT_TRUE(r.receiver.on_batch(second)->batch);
}

TEST(BatchReceiver, RefusesAHole) {
  Receiver r;
  ASSERT_TRUE(r.receiver.on_resume(Resume{1, {}}));
  r.next();
  expect_corrupt(r.receiver.on_batch(r.next()), "batch 2 where 1 comes next");
}

TEST(BatchReceiver, RefusesABatchBeforeTheResume) {
  Receiver r;
  expect_corrupt(r.receiver.on_batch(r.next()), "batch 1 before the resume");
}

TEST(BatchReceiver, RefusesAWrongDigest) {
  Receiver r;
  ASSERT_TRUE(r.receiver.on_resume(Resume{1, {}}));
  auto message = r.next();
  const auto whole = message;
  message.canonical.back() = static_cast<char>(message.canonical.back() ^ 1);
  expect_corrupt(r.receiver.on_batch(message), "batch 1: wrong digest");
  message = whole;
  message.digest[0] = static_cast<char>(message.digest[0] ^ 1);
  expect_corrupt(r.receiver.on_batch(message), "batch 1: wrong digest");
  EXPECT_TRUE(r.receiver.on_batch(whole)->batch);
}

TEST(BatchReceiver, RefusesWhatCannotBeDecoded) {
  Receiver r;
  ASSERT_TRUE(r.receiver.on_resume(Resume{1, {}}));
  const std::string nonsense = "nonsense";
  expect_corrupt(
      r.receiver.on_batch(BatchMessage{1, nonsense, std::string(base::as_bytes(base::sha256(nonsense))), ""}),
      "batch 1: ");
}

TEST(BatchReceiver, RefusesABatchOfAnotherIdentity) {
  const auto of = [](const std::string& source, event::Epoch epoch, std::uint64_t sequence) {
    const auto canonical = event::encode_batch(event::BatchId{source, epoch, sequence}, 0, "").value();
    return BatchMessage{1, canonical, std::string(base::as_bytes(base::sha256(canonical))), ""};
  };
  for (const auto& foreign :
       {of("other", some_epoch, 1), of("procmond", event::Epoch{9}, 1), of("procmond", some_epoch, 2)}) {
    Receiver r;
    ASSERT_TRUE(r.receiver.on_resume(Resume{1, {}}));
    expect_corrupt(r.receiver.on_batch(foreign), "is inside");
  }
  Receiver r;
  ASSERT_TRUE(r.receiver.on_resume(Resume{1, {}}));
  EXPECT_TRUE(r.receiver.on_batch(of("procmond", some_epoch, 1))->batch);
}

TEST(BatchReceiver, TakesAJumpOnlyWithItsReason) {
  EXPECT_FALSE(Receiver(2).receiver.on_resume(Resume{5, {}}));
  EXPECT_FALSE(Receiver(2).receiver.on_resume(Resume{2, {}}));                        // already committed
  EXPECT_FALSE(Receiver(2).receiver.on_resume(Resume{5, Missing{4, 4, {}, {}, 1}}));  // not all of it
  EXPECT_FALSE(Receiver(2).receiver.on_resume(Resume{5, Missing{1, 4, {}, {}, 1}}));  // more than is gone
  Receiver r(2);
  for (int i = 0; i < 4; ++i) r.next();
  const Missing missing{3, 4, Timestamp{1}, Timestamp{2}, 7};
  ASSERT_TRUE(r.receiver.on_resume(Resume{5, missing}));
  EXPECT_FALSE(r.receiver.on_resume(Resume{5, missing}));  // only once
  const auto fifth = r.receiver.on_batch(r.next());
  ASSERT_TRUE(fifth && fifth->batch);
  EXPECT_EQ(fifth->batch->missing, missing);  // to be stored together with it
  const auto sixth = r.receiver.on_batch(r.next());
  ASSERT_TRUE(sixth && sixth->batch);
  EXPECT_FALSE(sixth->batch->missing);
}

}  // namespace
}  // namespace daemoneye::ipc
