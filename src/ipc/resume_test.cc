// Both ends of the batch stream, joined by wires that break at any byte, with ends that die and stores that are put
// back to an older copy: whatever was acknowledged is stored once, in order, or its loss is explained.
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <deque>
#include <map>
#include <optional>
#include <random>
#include <set>
#include <vector>

#include "base/event_loop.h"
#include "ipc/batch_stream.h"
#include "ipc/codec.h"
#include "ipc/connection.h"
#include "ipc/frame.h"
#include "ipc/test_batches.h"

namespace daemoneye::ipc {
namespace {

using BatchName = std::pair<event::Epoch, std::uint64_t>;

event::Epoch epoch_number(std::uint8_t number) { return event::Epoch{0xee, number}; }

struct ModelStore {
  struct Row {
    BatchName name;
    std::string canonical;
  };
  struct Gap {
    event::Epoch epoch;
    Missing missing;
  };
  std::string id;
  std::vector<Row> rows;
  std::map<event::Epoch, std::uint64_t> committed;
  std::vector<Gap> gaps;
  std::optional<Timestamp> covered_until;
  std::optional<event::Epoch> first_held;  // a store promises nothing from before the first epoch it holds

  void commit(const BatchReceiver::Incoming& incoming, Timestamp until) {
    std::uint64_t& highest = committed[incoming.id.epoch];
    if (incoming.id.sequence <= highest) return;  // came twice, through the writer's queue
    if (incoming.missing) {
      ASSERT_EQ(incoming.missing->first_sequence, highest + 1);
      ASSERT_EQ(incoming.missing->last_sequence, incoming.id.sequence - 1);
      gaps.push_back({incoming.id.epoch, *incoming.missing});
    } else {
      ASSERT_EQ(incoming.id.sequence, highest + 1) << "a hole without a reason";
    }
    highest = incoming.id.sequence;
    rows.push_back({{incoming.id.epoch, incoming.id.sequence}, incoming.canonical});
    covered_until = until;
    if (!first_held) first_held = incoming.id.epoch;
  }
};

class Wire {
 public:
  virtual ~Wire() = default;
  std::function<void(Message)> to_collector, to_agent;
  std::function<void()> collector_down, agent_down;
  virtual void connect() = 0;
  virtual void cut() = 0;
  virtual Result<void> from_collector(const Message& message) = 0;
  virtual Result<void> from_agent(const Message& message) = 0;
  virtual void step(std::mt19937_64& random) = 0;
  // The connection ends after this many more bytes.
  virtual void cut_after(std::size_t bytes) = 0;
  [[nodiscard]] virtual bool up() const = 0;
};

// Two byte pipes and a frame reader at the end of each. All in order of the seed alone.
class PipeWire : public Wire {
 public:
  void connect() override {
    directions_ = std::array<Direction, 2>();
    up_ = true;
    budget_ = ~std::size_t{0};
  }
  void cut() override {
    if (!std::exchange(up_, false)) return;
    collector_down();
    agent_down();
  }
  void cut_after(std::size_t bytes) override { budget_ = bytes; }
  [[nodiscard]] bool up() const override { return up_; }
  Result<void> from_collector(const Message& message) override { return put(directions_[0], message); }
  Result<void> from_agent(const Message& message) override { return put(directions_[1], message); }
  void step(std::mt19937_64& random) override {
    if (!up_) return;
    const std::size_t which = random() % 2;
    Direction& direction = directions_[which];
    const std::size_t size = std::min({direction.bytes.size(), std::size_t{random() % 700}, budget_});
    budget_ -= size;
    direction.reader.feed(std::string_view(direction.bytes).substr(0, size));
    direction.bytes.erase(0, size);
    std::string_view payload;
    while (up_) {
      const auto next = direction.reader.next(payload);
      ASSERT_TRUE(next) << next.error().message;
      if (!*next) break;
      auto message = decode_message(payload);
      ASSERT_TRUE(message) << message.error().message;
      (which == 0 ? to_agent : to_collector)(std::move(*message));
    }
    if (budget_ == 0) cut();
  }

 private:
  struct Direction {
    std::string bytes;
    FrameReader reader;
    std::uint64_t next_sequence = 1;
  };
  Result<void> put(Direction& direction, const Message& message) {
    DE_CHECK(check_message(message));
    append_frame(direction.bytes, direction.next_sequence++, encode_message(message));
    return {};
  }
  std::array<Direction, 2> directions_;
  std::size_t budget_ = 0;
  bool up_ = false;
};

// Two real connections on one loop, and between them a relay that forgets everything after so many bytes.
class SocketWire : public Wire {
 public:
  SocketWire() : loop_(std::move(*EventLoop::create())) {}
  void connect() override {
    cut();
    std::array<int, 2> near{}, far{};
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, near.data()), 0);
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, far.data()), 0);
    relay_[0].reset(near[1]);
    relay_[1].reset(far[1]);
    pending_ = {};
    budget_ = ~std::size_t{0};
    collector_ = adopt(near[0], to_collector, [this] {
      collector_.reset();  // inside its own callback
      collector_down();
    });
    agent_ = adopt(far[0], to_agent, [this] {
      agent_.reset();
      agent_down();
    });
  }
  void cut() override {
    relay_ = {};
    // What already passed the relay still arrives, then the end.
    while (collector_ || agent_) turn();
  }
  void cut_after(std::size_t bytes) override { budget_ = bytes; }
  [[nodiscard]] bool up() const override { return collector_ && agent_ && relay_[0]; }
  Result<void> from_collector(const Message& message) override { return through(collector_, message); }
  Result<void> from_agent(const Message& message) override { return through(agent_, message); }
  void step(std::mt19937_64& random) override {
    for (std::size_t from = 0; from < 2 && relay_[0]; ++from) forward(from, random() % 2000);
    turn();
    if (relay_[0] && budget_ == 0) cut();
  }

 private:
  std::unique_ptr<Connection> adopt(int fd, const std::function<void(Message)>& deliver, std::function<void()> down) {
    Connection::Handlers handlers;
    handlers.on_message = deliver;
    handlers.on_close = [down = std::move(down)](const std::string&) { down(); };
    return std::move(*Connection::adopt(*loop_, UniqueFd(fd), std::move(handlers)));
  }
  static Result<void> through(const std::unique_ptr<Connection>& connection, const Message& message) {
    if (!connection) return fail(Errc::unavailable, "down");
    return connection->send(message);
  }
  void forward(std::size_t from, std::size_t limit) {
    char buffer[2000];
    limit = std::min(limit, budget_);
    if (const auto got = ::recv(relay_[from].get(), buffer, limit, MSG_DONTWAIT); got > 0) {
      budget_ -= static_cast<std::size_t>(got);
      pending_[from].append(buffer, static_cast<std::size_t>(got));
    }
    const auto sent =
        ::send(relay_[1 - from].get(), pending_[from].data(), pending_[from].size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent > 0) pending_[from].erase(0, static_cast<std::size_t>(sent));
  }
  void turn() {
    // Two rounds: what the first one wrote is read in the second.
    loop_->post([this] { loop_->post([this] { loop_->stop(); }); });
    loop_->run();
  }
  std::unique_ptr<EventLoop> loop_;
  std::unique_ptr<Connection> collector_, agent_;
  std::array<UniqueFd, 2> relay_;
  std::array<std::string, 2> pending_;
  std::size_t budget_ = 0;
};

class World {
 public:
  struct Counts {
    std::size_t cuts = 0, rollbacks = 0, collector_restarts = 0, agent_restarts = 0, restores = 0, new_stores = 0,
                lost = 0, acknowledged = 0, stored = 0, window_waits = 0;
  };

  World(Wire& wire, std::uint64_t seed) : wire_(wire), random_(seed) {
    wire_.to_collector = [this](Message message) { collector_hears(std::move(message)); };
    wire_.to_agent = [this](Message message) { agent_hears(std::move(message)); };
    wire_.collector_down = [this] { sender_->on_disconnect(); };
    wire_.agent_down = [this] { receiver_.reset(); };
    start_collector();
    new_store();
  }

  void run(std::size_t steps) {
    for (std::size_t i = 0; i < steps && !::testing::Test::HasFatalFailure(); ++i) {
      step();
    }
    settle();
    check();
  }
  [[nodiscard]] const Counts& counts() const { return counts_; }

 private:
  bool one_in(std::uint64_t n) { return random_() % n == 0; }
  BatchSender::Send to_agent() {
    return [this](const Message& message) { return wire_.from_collector(message); };
  }

  void step() {
    if (!wire_.up()) connect();
    if (one_in(3)) make_batch();
    wire_.step(random_);
    if (one_in(3)) commit_one();
    if (one_in(40)) snapshots_.push_back(store_);
    if (one_in(1000)) {
      ++counts_.collector_restarts;
      drop();
      start_collector();
    }
    if (one_in(500)) restart_agent();
    if (one_in(300)) {
      ++counts_.restores;
      restart_agent();
      if (one_in(8)) {
        new_store();
      } else if (!snapshots_.empty()) {
        store_ = snapshots_[random_() % snapshots_.size()];
      }
    }
  }

  void connect() {
    if (one_in(4)) return;  // stays away for a while
    wire_.connect();
    const std::uint64_t longest = one_in(3) ? 60 : 6000;
    if (!finishing_) wire_.cut_after(random_() % longest);
    ++counts_.cuts;
    send(sender_->hello(Timestamp{epoch_started_}, "0.1.0", "host"));
  }
  void send(const Message& message) { static_cast<void>(wire_.from_collector(message)); }
  void drop() { wire_.cut(); }

  void start_collector() {
    epoch_ = epoch_number(++epochs_);
    sender_.emplace("procmond", epoch_, BatchSender::Limits{20'000});
    epoch_started_ = ++clock_;
    noted_ = 0;
  }
  void restart_agent() {
    ++counts_.agent_restarts;
    drop();
    receiver_.reset();
    queue_.clear();
  }
  void new_store() {
    ++counts_.new_stores;
    store_ = ModelStore{};
    store_.id = "store-" + std::to_string(counts_.new_stores);
  }

  void make_batch() {
    const std::size_t events = random_() % 6;
    if (!sender_->has_room(events * 60 + 40)) return;
    const std::int64_t first = ++clock_;
    clock_ += static_cast<std::int64_t>(events);
    auto prepared = sender_->prepare(events, testing::encoded_events(events, first), events == 0 ? "scan" : "",
                                     Timestamp{first}, Timestamp{clock_});
    ASSERT_TRUE(prepared) << prepared.error().message;
    made_[{epoch_, prepared->message.sequence}] = {prepared->message.canonical, events, first};
    ASSERT_TRUE(sender_->queue(std::move(*prepared)));
    ASSERT_LE(sender_->held_bytes(), 22'000u);
    // An error is the connection's, and the batch stays held.
    static_cast<void>(sender_->pump(to_agent()));
    ASSERT_LE(sender_->in_flight_records(), std::size_t{credit});
  }

  void collector_hears(Message message) {
    if (const auto* welcome = std::get_if<Welcome>(&message)) {
      const auto before = noted_;
      auto rollback = sender_->on_welcome(*welcome, to_agent());
      note_acknowledged();
      if (!rollback) {
        ASSERT_NE(rollback.error().code, Errc::corrupt) << rollback.error().message;
        return;
      }
      if (*rollback) check_rollback(**rollback, *welcome, before);
      // The collector's own gap from the end of the last epoch it can see to the begin of this one.
      if (welcome->committed_sequence == 0 && welcome->covered_until) {
        told_.push_back({epoch_, Missing{1, 0, *welcome->covered_until, Timestamp{epoch_started_}, 0}});
      }
    } else if (const auto* acknowledge = std::get_if<Acknowledge>(&message)) {
      const auto taken = sender_->on_acknowledge(*acknowledge, to_agent());
      ASSERT_TRUE(taken || taken.error().code != Errc::corrupt) << taken.error().message;
      note_acknowledged();
    } else {
      FAIL() << "the collector got message " << message.index();
    }
  }

  void note_acknowledged() {
    while (noted_ < sender_->acknowledged_sequence()) {
      acknowledged_.insert({epoch_, ++noted_});
      ++counts_.acknowledged;
    }
  }

  // It names exactly what was acknowledged and is not in the store.
  void check_rollback(const Missing& rollback, const Welcome& welcome, std::uint64_t acknowledged_before) {
    ++counts_.rollbacks;
    told_.push_back({epoch_, rollback});
    ASSERT_EQ(rollback.first_sequence, welcome.committed_sequence + 1);
    ASSERT_EQ(rollback.last_sequence, std::max(acknowledged_before, welcome.committed_sequence));
    std::uint64_t events = 0;
    for (auto sequence = rollback.first_sequence; sequence <= rollback.last_sequence; ++sequence) {
      ASSERT_TRUE(acknowledged_.contains({epoch_, sequence}));
      const Made& made = made_[{epoch_, sequence}];
      events += made.events;
      ASSERT_GE(made.time, rollback.from.ns);
      ASSERT_LE(made.time, rollback.to.ns);
    }
    ASSERT_EQ(rollback.events, events);
  }

  void agent_hears(Message message) {
    if (auto* hello = std::get_if<Hello>(&message)) {
      ASSERT_TRUE(check_hello(*hello));
      const std::uint64_t committed = store_.committed[hello->epoch];
      receiver_.emplace(std::move(*hello), committed);
      answer(Welcome{protocol_version, store_.id, committed, credit, store_.covered_until});
    } else if (const auto* resume = std::get_if<Resume>(&message)) {
      const auto taken = receiver_->on_resume(*resume);
      ASSERT_TRUE(taken) << taken.error().message;
    } else if (auto* batch = std::get_if<BatchMessage>(&message)) {
      auto outcome = receiver_->on_batch(std::move(*batch));
      ASSERT_TRUE(outcome) << outcome.error().message;
      if (outcome->again) answer(*outcome->again);
      if (outcome->batch) queue_.push_back(std::move(*outcome->batch));
    } else {
      FAIL() << "the agent got message " << message.index();
    }
  }
  void answer(const Message& message) { static_cast<void>(wire_.from_agent(message)); }

  void commit_one() {
    if (queue_.empty()) return;
    const auto incoming = std::move(queue_.front());
    queue_.pop_front();
    store_.commit(incoming, Timestamp{made_[{incoming.id.epoch, incoming.id.sequence}].time});
    // To whatever connection there is now, when it is of the same epoch.
    if (receiver_ && incoming.id.epoch == epoch_) answer(receiver_->on_committed(incoming.id.sequence));
  }

  void settle() {
    finishing_ = true;
    drop();
    for (std::size_t i = 0; i < 100'000 && !::testing::Test::HasFatalFailure(); ++i) {
      if (!wire_.up()) connect();
      wire_.step(random_);
      commit_one();
      if (sender_->connected() && sender_->all_acknowledged() && queue_.empty()) return;
    }
    FAIL() << "the stream does not come to rest: " << sender_->held_batches() << " batches held";
  }

  template <class Gaps>
  [[nodiscard]] bool explained(const Gaps& gaps, const BatchName& name) {
    const std::int64_t time = made_[name].time;
    for (const auto& [epoch, missing] : gaps) {
      if (epoch == name.first && missing.first_sequence <= name.second && name.second <= missing.last_sequence) {
        return true;
      }
      // Of an earlier epoch the collector knows only the time.
      if (epoch != name.first && missing.from.ns <= time && time <= missing.to.ns) return true;
    }
    return false;
  }

  void check() {
    std::set<BatchName> stored;
    std::map<event::Epoch, std::uint64_t> last;
    for (const auto& row : store_.rows) {
      ASSERT_TRUE(stored.insert(row.name).second) << "batch " << row.name.second << " is stored twice";
      ASSERT_GT(row.name.second, last[row.name.first]) << "out of order";
      last[row.name.first] = row.name.second;
      ASSERT_EQ(row.canonical, made_[row.name].canonical);
    }
    counts_.stored = stored.size();
    for (const auto& gap : store_.gaps) {
      for (auto sequence = gap.missing.first_sequence; sequence <= gap.missing.last_sequence; ++sequence) {
        ASSERT_FALSE(stored.contains({gap.epoch, sequence})) << "said to be missing, and stored";
      }
    }
    for (const auto& name : acknowledged_) {
      if (stored.contains(name)) continue;
      ++counts_.lost;
      if (!store_.first_held || name.first < *store_.first_held) continue;
      ASSERT_TRUE(explained(store_.gaps, name)) << "epoch " << int{name.first[1]} << " batch " << name.second
                                                << " was acknowledged, is gone, and the store does not say so";
      ASSERT_TRUE(explained(told_, name)) << "epoch " << int{name.first[1]} << " batch " << name.second
                                          << " was acknowledged, is gone, and the collector was not told";
    }
  }

  struct Made {
    std::string canonical;
    std::size_t events = 0;
    std::int64_t time = 0;
  };
  static constexpr std::uint32_t credit = 12;
  Wire& wire_;
  std::mt19937_64 random_;
  Counts counts_;
  bool finishing_ = false;
  std::int64_t clock_ = 1000;
  std::map<BatchName, Made> made_;
  std::set<BatchName> acknowledged_;
  std::vector<ModelStore::Gap> told_;
  // collector
  std::uint8_t epochs_ = 0;
  event::Epoch epoch_{};
  std::int64_t epoch_started_ = 0;
  std::optional<BatchSender> sender_;
  std::uint64_t noted_ = 0;  // acknowledged and taken down
  // agent
  ModelStore store_;
  std::vector<ModelStore> snapshots_;
  std::optional<BatchReceiver> receiver_;
  std::deque<BatchReceiver::Incoming> queue_;  // the writer's
};

template <class WireType>
World::Counts run_worlds(std::uint64_t first_seed, std::size_t worlds, std::size_t steps) {
  World::Counts sum;
  for (std::uint64_t seed = first_seed; seed < first_seed + worlds; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    WireType wire;
    World world(wire, seed);
    world.run(steps);
    if (::testing::Test::HasFatalFailure()) return sum;
    const auto& counts = world.counts();
    sum.cuts += counts.cuts;
    sum.rollbacks += counts.rollbacks;
    sum.collector_restarts += counts.collector_restarts;
    sum.agent_restarts += counts.agent_restarts;
    sum.restores += counts.restores;
    sum.lost += counts.lost;
    sum.acknowledged += counts.acknowledged;
    sum.stored += counts.stored;
  }
  std::printf(
      "%zu connections, %zu collector and %zu agent restarts, %zu restored stores, %zu rollbacks; of %zu "
      "acknowledged batches %zu were lost with a store\n",
      sum.cuts, sum.collector_restarts, sum.agent_restarts, sum.restores, sum.rollbacks, sum.acknowledged, sum.lost);
  return sum;
}

TEST(Resume, LosesAndRepeatsNothingOverPipesCutAtAnyByte) {
  const auto counts = run_worlds<PipeWire>(1, 60, 3000);
  EXPECT_GT(counts.cuts, 5000u);
  EXPECT_GT(counts.rollbacks, 100u);
  EXPECT_GT(counts.collector_restarts, 50u);
  EXPECT_GT(counts.lost, 100u);
  EXPECT_GT(counts.stored, 5000u);
}

TEST(Resume, LosesAndRepeatsNothingOverSocketsCutAtAnyByte) {
  const auto counts = run_worlds<SocketWire>(1000, 20, 2000);
  EXPECT_GT(counts.cuts, 1000u);
  EXPECT_GT(counts.rollbacks, 20u);
  EXPECT_GT(counts.lost, 20u);
  EXPECT_GT(counts.stored, 1000u);
}

}  // namespace
}  // namespace daemoneye::ipc
