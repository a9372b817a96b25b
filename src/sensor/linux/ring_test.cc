#include "sensor/linux/ring.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/bpf.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <vector>

#include "base/unique_fd.h"

namespace daemoneye::sensor {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

// The pages that the kernel would give, in a file; and the kernel's side of them.
class RingTest : public ::testing::Test {
 protected:
  void SetUp() override {
    file_.reset(::memfd_create("ring", MFD_CLOEXEC));
    ASSERT_TRUE(file_);
    ASSERT_EQ(::ftruncate(file_.get(), static_cast<off_t>(2 * page_ + bytes_)), 0);
    auto* const pages = ::mmap(nullptr, 2 * page_ + bytes_, PROT_READ | PROT_WRITE, MAP_SHARED, file_.get(), 0);
    ASSERT_NE(pages, MAP_FAILED);
    pages_ = static_cast<char*>(pages);
    auto ring = Ring::open(file_.get(), bytes_);
    ASSERT_TRUE(ring) << ring.error().message;
    ring_ = std::move(*ring);
  }
  void TearDown() override {
    if (pages_ != nullptr) ::munmap(pages_, 2 * page_ + bytes_);
  }

  std::uint64_t& consumed() { return *reinterpret_cast<std::uint64_t*>(pages_); }
  std::uint64_t& produced() { return *reinterpret_cast<std::uint64_t*>(pages_ + page_); }
  void put(std::uint64_t at, char byte) { pages_[2 * page_ + at % bytes_] = byte; }
  std::uint32_t& header(std::uint64_t at) {
    return *reinterpret_cast<std::uint32_t*>(pages_ + 2 * page_ + at % bytes_);
  }
  // Where it was written.
  std::uint64_t write(const std::string& record, std::uint32_t state = 0) {
    const auto at = produced();
    header(at) = static_cast<std::uint32_t>(record.size()) | state;
    for (std::size_t i = 0; i < record.size(); ++i) put(at + BPF_RINGBUF_HDR_SZ + i, record[i]);
    produced() = at + (BPF_RINGBUF_HDR_SZ + record.size() + 7) / 8 * 8;
    return at;
  }
  // What is handed over, `most` at a time.
  std::vector<std::string> take(std::size_t most = SIZE_MAX) {
    std::vector<std::string> taken;
    EXPECT_EQ(ring_->consume([&](std::string_view record) {
      taken.emplace_back(record);
      return taken.size() < most;
    }),
              0);
    return taken;
  }

  const std::size_t page_ = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  const std::size_t bytes_ = page_;
  base::UniqueFd file_;
  char* pages_ = nullptr;
  std::unique_ptr<Ring> ring_;
};

TEST_F(RingTest, HandsOverWhatWasWrittenInItsOrderAndSaysSo) {
  EXPECT_THAT(take(), IsEmpty());
  write("first");
  write(std::string("se\0cond", 7));
  write("");
  EXPECT_THAT(take(), ElementsAre("first", std::string("se\0cond", 7), ""));
  EXPECT_EQ(consumed(), produced());
  EXPECT_THAT(take(), IsEmpty());
  write("later");
  EXPECT_THAT(take(), ElementsAre("later"));
}

TEST_F(RingTest, JoinsARecordThatReachesOverTheEnd) {
  std::size_t joined = 0;
  for (std::size_t i = 0; i < 200; ++i) {
    const std::string record(100 + i, static_cast<char>('a' + i % 26));
    const auto at = write(record) % bytes_;
    if (at + BPF_RINGBUF_HDR_SZ < bytes_ && at + BPF_RINGBUF_HDR_SZ + record.size() > bytes_) ++joined;
    ASSERT_THAT(take(), ElementsAre(record)) << i;
  }
  EXPECT_GT(joined, 0U);
}

TEST_F(RingTest, TakesARecordWhoseHeaderIsTheLastOfTheRing) {
  write(std::string(bytes_ - 2 * BPF_RINGBUF_HDR_SZ, 'x'));
  take();
  ASSERT_EQ(produced() % bytes_, bytes_ - BPF_RINGBUF_HDR_SZ);
  write("from the beginning");
  EXPECT_THAT(take(), ElementsAre("from the beginning"));
}

TEST_F(RingTest, WaitsForARecordThatIsStillBeingWritten) {
  write("done");
  const auto at = write("not yet", BPF_RINGBUF_BUSY_BIT);
  write("behind it");
  EXPECT_THAT(take(), ElementsAre("done"));
  EXPECT_EQ(consumed(), at);
  header(at) &= ~BPF_RINGBUF_BUSY_BIT;
  EXPECT_THAT(take(), ElementsAre("not yet", "behind it"));
}

TEST_F(RingTest, LeavesOutWhatWasDiscarded) {
  write("kept");
  write("taken back", BPF_RINGBUF_DISCARD_BIT);
  write("kept, too");
  EXPECT_THAT(take(), ElementsAre("kept", "kept, too"));
  EXPECT_EQ(consumed(), produced());
}

TEST_F(RingTest, StopsWhenItIsEnough) {
  for (const auto* record : {"1", "2", "3"}) write(record);
  EXPECT_THAT(take(2), ElementsAre("1", "2"));
  EXPECT_LT(consumed(), produced());
  EXPECT_THAT(take(2), ElementsAre("3"));
}

TEST_F(RingTest, FreesWhatWasReadWhileMoreIsWritten) {
  // More than the ring holds, in one go: each is written once there is room for it.
  std::size_t seen = 0;
  const std::string record(bytes_ / 4, 'r');
  write(record);
  EXPECT_EQ(ring_->consume([&](std::string_view) {
    if (++seen < 100 && produced() - consumed() + record.size() + BPF_RINGBUF_HDR_SZ <= bytes_) write(record);
    return true;
  }),
            0);
  EXPECT_EQ(seen, 100U);
}

TEST_F(RingTest, RefusesALengthThatCannotBe) {
  write("good");
  const auto at = write("bad");
  header(at) = 64;
  std::vector<std::string> taken;
  EXPECT_EQ(ring_->consume([&](std::string_view record) {
    taken.emplace_back(record);
    return true;
  }),
            EIO);
  EXPECT_THAT(taken, ElementsAre("good"));
  EXPECT_EQ(consumed(), at);
}

TEST(Ring, IsNotMadeOfAnythingElse) {
  const base::UniqueFd file(::memfd_create("nothing", MFD_CLOEXEC));
  ASSERT_EQ(::ftruncate(file.get(), 0), 0);
  EXPECT_FALSE(Ring::open(-1, 4096));
}

}  // namespace
}  // namespace daemoneye::sensor
