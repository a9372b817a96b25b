#include "sensor/linux/record.h"

#include <gtest/gtest.h>
#include <sys/sysmacros.h>

#include <cstring>
#include <string>

namespace daemoneye::sensor {
namespace {

using std::string_literals::operator""s;

struct Parts {
  std::string filename, arguments, executable, cwd, cgroup;
};

std::string encode(daemoneye_record record, const Parts& parts = {}) {
  std::string variable;
  int i = 0;
  for (const auto* part : {&parts.filename, &parts.arguments, &parts.executable, &parts.cwd, &parts.cgroup}) {
    record.lengths[i++] = static_cast<unsigned>(part->size());
    variable += *part;
  }
  record.magic = DE_RECORD_MAGIC;
  record.size = static_cast<unsigned>(sizeof record + variable.size());
  std::string bytes(sizeof record, '\0');
  std::memcpy(bytes.data(), &record, sizeof record);
  return bytes + variable;
}

daemoneye_record exec_record() {
  daemoneye_record record{};
  record.kind = DE_EXEC;
  record.flags =
      DE_HAS_FILENAME | DE_HAS_ARGUMENTS | DE_HAS_EXECUTABLE | DE_HAS_CWD | DE_HAS_CGROUP | DE_HAS_TTY | DE_HAS_FILE;
  record.pid = 42;
  record.ppid = 7;
  record.start_ns = 1'239'999'999;
  record.loginuid = 0xffff'ffff;
  record.links = 1;
  record.device = 8u << 20 | 300;
  record.inode = 4711;
  record.file_bytes = 10'000;
  record.mtime_ns = 1'700'000'000'000'000'001;
  record.ctime_ns = -5;
  record.flags |= DE_HAS_NAMESPACES;
  for (unsigned i = 0; i < DE_NAMESPACES; ++i) record.namespaces[i] = i + 1;
  std::strcpy(record.comm, "fifteen-letters");
  std::strcpy(record.tty, "pts12");
  return record;
}

TEST(DecodeRecord, GivesEveryField) {
  RawProcess process;
  const auto info =
      decode_record(encode(exec_record(), {"./id", "id\0-u\0"s, "id\0bin\0usr\0"s, "tmp\0"s, ""}), process);
  ASSERT_TRUE(info);
  EXPECT_EQ(info->kind, DE_EXEC);
  EXPECT_EQ(process.pid, 42U);
  EXPECT_EQ(process.start_ticks, 123U);  // rounded down, as /proc does
  EXPECT_EQ(process.comm, "fifteen-letters");
  EXPECT_EQ(process.filename, "./id");
  EXPECT_EQ(process.arguments, "id\0-u\0"s);
  EXPECT_EQ(process.executable_path, "/usr/bin/id");
  EXPECT_EQ(process.cwd, "/tmp");
  EXPECT_EQ(process.cgroup, "/");
  EXPECT_EQ(process.tty, "pts/12");
  EXPECT_EQ(process.loginuid, std::nullopt);
  EXPECT_EQ(process.file, (FileIdentity{::makedev(8, 300), 4711, 10'000, 1'700'000'000'000'000'001, -5}));
  EXPECT_EQ(process.links, 1U);
  EXPECT_EQ(process.namespaces, (Namespaces{1, 2, 3, 4, 5, 6, 7}));
  EXPECT_EQ(process.executable_state, event::ExecutableState::ok);
}

TEST(DecodeRecord, TellsTheStatesOfTheExecutable) {
  RawProcess process;
  auto record = exec_record();
  record.links = 0;
  ASSERT_TRUE(decode_record(encode(record, {"", "", "memfd:x\0tmp\0"s, "", ""}), process));
  EXPECT_EQ(process.executable_state, event::ExecutableState::deleted);  // only called so
  record.flags |= DE_PSEUDO_FILE | DE_UNLINKED;
  ASSERT_TRUE(decode_record(encode(record, {"", "", "memfd:x\0"s, "", ""}), process));
  EXPECT_EQ(process.executable_state, event::ExecutableState::memfd);
  EXPECT_EQ(process.executable_path, "/memfd:x");
  record = exec_record();
  record.flags |= DE_UNLINKED;  // another hard link is left
  ASSERT_TRUE(decode_record(encode(record, {"", "", "x\0"s, "", ""}), process));
  EXPECT_EQ(process.executable_state, event::ExecutableState::deleted);
}

TEST(DecodeRecord, MarksAPathThatWasCut) {
  RawProcess process;
  auto record = exec_record();
  record.flags |= DE_EXECUTABLE_CUT;
  const auto info = decode_record(encode(record, {"", "", "id\0bin\0"s, "", ""}), process);
  ASSERT_TRUE(info);
  EXPECT_TRUE(info->cut);
  EXPECT_EQ(process.executable_path, ".../bin/id");
}

TEST(DecodeRecord, LeavesOutWhatIsNotFlagged) {
  RawProcess process;
  process.cwd = "from the record before";
  auto record = exec_record();
  record.flags = 0;
  ASSERT_TRUE(decode_record(encode(record, {"a", "b", "c", "d", "e"}), process));
  EXPECT_EQ(process.filename, std::nullopt);
  EXPECT_EQ(process.arguments, std::nullopt);
  EXPECT_EQ(process.executable_path, std::nullopt);
  EXPECT_EQ(process.executable_state, std::nullopt);
  EXPECT_EQ(process.file, FileIdentity{});
  EXPECT_EQ(process.links, std::nullopt);
  EXPECT_EQ(process.namespaces, std::nullopt);
  EXPECT_EQ(process.cwd, std::nullopt);
  EXPECT_EQ(process.cgroup, std::nullopt);
  EXPECT_EQ(process.tty, std::nullopt);
}

TEST(DecodeRecord, RefusesLengthsThatLie) {
  RawProcess process;
  const auto good = encode(exec_record(), {"./id", "id\0"s, "id\0"s, "tmp\0"s, "x\0"s});
  ASSERT_TRUE(decode_record(good, process));
  EXPECT_FALSE(decode_record(good.substr(0, good.size() - 1), process));
  EXPECT_FALSE(decode_record(good.substr(0, sizeof(daemoneye_record) - 1), process));
  EXPECT_FALSE(decode_record("", process));
  const auto with = [&](auto change) {
    daemoneye_record record;
    std::memcpy(&record, good.data(), sizeof record);
    change(record);
    auto bytes = good;
    std::memcpy(bytes.data(), &record, sizeof record);
    return decode_record(bytes, process).has_value();
  };
  EXPECT_TRUE(with([](auto&) {}));
  EXPECT_FALSE(with([](auto& record) { record.magic = 0; }));
  EXPECT_FALSE(with([](auto& record) { record.kind = 0; }));
  EXPECT_FALSE(with([](auto& record) { record.kind = 6; }));
  EXPECT_FALSE(with([](auto& record) { record.size = 3; }));
  EXPECT_FALSE(with([](auto& record) { record.size = 0xffff'ffff; }));
  EXPECT_FALSE(with([](auto& record) { record.size -= 1; }));
  EXPECT_FALSE(with([](auto& record) { record.lengths[DE_ARGUMENTS] += 1; }));
  EXPECT_FALSE(with([](auto& record) { record.lengths[DE_CWD] -= 1; }));
  EXPECT_FALSE(with([](auto& record) { record.lengths[DE_FILENAME] = 0xffff'ffff; }));
}

TEST(RecordSize, WaitsForTheFixedPart) {
  const auto good = encode(exec_record(), {"./id", "", "", "", ""});
  EXPECT_EQ(record_size(good.substr(0, 10)), std::nullopt);
  EXPECT_EQ(record_size(good), good.size());
  EXPECT_EQ(record_size(std::string(sizeof(daemoneye_record), 'x')), 0U);
}

}  // namespace
}  // namespace daemoneye::sensor
