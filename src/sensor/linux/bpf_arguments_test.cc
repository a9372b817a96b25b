// Arguments as they were passed, whatever they hold: by the source at exec, and by the snapshot afterwards.
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include <cstring>
#include <numeric>

#include "sensor/linux/snapshot_test.h"

namespace daemoneye::sensor {
namespace {

std::string every_byte() {
  std::string bytes(255, '\0');
  std::iota(bytes.begin(), bytes.end(), '\1');
  return bytes;
}

struct Case {
  const char* name;
  std::vector<std::string> arguments;
};

std::vector<Case> cases() {
  std::vector<Case> all = {
      {"one", {"true"}},
      {"empty ones", std::vector<std::string>(100, "")},
      {"an empty first one", {"", "x"}},
      {"newlines and tabs", {"true", "a\nb", "\n", "\r\n\t", " "}},
      {"brackets", {"(true)", "[kworker/0:1]", ") R 1 ("}},
      {"every byte", {every_byte(), every_byte()}},
      {"not UTF-8", {"true", "\xff", "\xc3", "\xed\xa0\x80", "\xf4\x90\x80\x80"}},
      {"a page", {"true", std::string(4096, 'p')}},
      {"the bound", {"true", std::string(kMaxArguments - 6, 'b')}},
      {"one more than the bound", {"true", std::string(kMaxArguments - 5, 'b')}},
      {"the longest single one", {"true", std::string(32 * 4096 - 1, 'l')}},
      {"many small ones", {}},
      {"2 MB", {"true"}},
  };
  for (int i = 0; i < 5'000; ++i) all[all.size() - 2].arguments.push_back(std::to_string(i));
  for (int i = 0; i < 20; ++i) all.back().arguments.emplace_back(100'000, static_cast<char>('a' + i));
  return all;
}

class Arguments : public KernelTest {};

TEST_F(Arguments, AreExactWhateverTheyHold) {
  rlimit stack{};
  ASSERT_EQ(::getrlimit(RLIMIT_STACK, &stack), 0);
  std::uint64_t cut = 0;
  for (const auto& [name, arguments] : cases()) {
    SCOPED_TRACE(name);
    Child child([&] { return execute("/bin/true", arguments); });
    const auto seen = wait_for(RawKind::exec, child.pid());
    ASSERT_TRUE(seen && seen->process.arguments);
    const auto bytes = joined(arguments);
    EXPECT_EQ(*seen->process.arguments, bytes.substr(0, kMaxArguments));
    EXPECT_EQ(seen->process.arguments_bytes, bytes.size());
    cut += bytes.size() > kMaxArguments ? 1 : 0;
  }
  EXPECT_GE(cut, 4U);
  EXPECT_GE(source_->counters().truncated, cut);
  EXPECT_EQ(source_->counters().lost, 0U);
  EXPECT_EQ(source_->counters().incomplete, 0U);
}

TEST_F(Arguments, StartAnywhereInAPage) {
  // The environment behind them moves them on, a byte at a time across a page's end.
  for (std::size_t shift = 0; shift < 4096; shift += 97) {
    const std::vector<std::string> arguments = {"true", std::string(300, 'x')};
    Child child([&] {
      std::string variable = "X=" + std::string(shift, 'e'), first = arguments[0], second = arguments[1];
      char* list[] = {first.data(), second.data(), nullptr};
      char* environment[] = {variable.data(), nullptr};
      ::execve("/bin/true", list, environment);
      return 127;
    });
    const auto seen = wait_for(RawKind::exec, child.pid());
    ASSERT_TRUE(seen) << shift;
    ASSERT_EQ(seen->process.arguments, joined(arguments)) << shift;
  }
}

class ArgumentsOfTheLiving : public SnapshotTest {};

TEST_F(ArgumentsOfTheLiving, AreExactWhateverTheyHold) {
  for (const auto& [name, arguments] : cases()) {
    SCOPED_TRACE(name);
    const Stopped stopped(arguments);
    const auto all = Stopped::with(arguments);
    const auto found = scan(*snapshot_);
    ASSERT_TRUE(found.contains(stopped.pid()));
    EXPECT_EQ(found.at(stopped.pid()).arguments, joined(all).substr(0, kMaxArguments));
    EXPECT_EQ(found.at(stopped.pid()).arguments_bytes, joined(all).size());
  }
}

// Field `number` of /proc/self/stat.
unsigned long long own_stat(int number) {
  std::FILE* file = std::fopen("/proc/self/stat", "re");
  if (file == nullptr) return 0;
  std::string text(4096, '\0');
  text.resize(std::fread(text.data(), 1, text.size(), file));
  std::fclose(file);
  std::size_t at = text.rfind(')') + 1;
  for (int field = 3; field <= number; ++field) at = text.find(' ', at) + 1;
  return std::strtoull(text.c_str() + at, nullptr, 10);
}

// Makes the kernel take this memory for the arguments of this process, as setproctitle(3) of old did.
bool tell_arguments_are(const char* begin, std::size_t bytes) {
  prctl_mm_map map{};
  map.start_code = own_stat(26);
  map.end_code = own_stat(27);
  map.start_stack = own_stat(28);
  map.start_data = own_stat(45);
  map.end_data = own_stat(46);
  map.start_brk = own_stat(47);
  map.brk = reinterpret_cast<std::uintptr_t>(::sbrk(0));
  map.arg_start = reinterpret_cast<std::uintptr_t>(begin);
  map.arg_end = map.arg_start + bytes;
  map.env_start = own_stat(50);
  map.env_end = own_stat(51);
  map.exe_fd = ~0U;
  return ::prctl(PR_SET_MM, PR_SET_MM_MAP, &map, sizeof map, 0) == 0;
}

TEST_F(ArgumentsOfTheLiving, LoseOnlyWhatLiesBehindAPageThatCannotBeRead) {
  constexpr std::size_t kPage = 4096;
  for (const std::size_t hole : {0U, 1U, 2U}) {
    SCOPED_TRACE(hole);
    Signpost signpost;
    Child child([&] {
      auto* memory =
          static_cast<char*>(::mmap(nullptr, 3 * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
      std::memset(memory, 'x', 3 * kPage);
      if (!tell_arguments_are(memory + 100, 3 * kPage - 100)) return 99;
      if (::munmap(memory + hole * kPage, kPage) != 0 || !signpost.reached()) return 98;
      return ::pause();
    });
    if (!signpost.wait()) GTEST_SKIP() << "not run: this kernel has no PR_SET_MM_MAP";
    const auto found = scan(*snapshot_).at(child.pid());
    if (hole == 0) {
      EXPECT_TRUE(!found.arguments || found.arguments->empty());
    } else {
      EXPECT_EQ(found.arguments, std::string(hole * kPage - 100, 'x'));
      EXPECT_EQ(found.arguments_bytes, 3 * kPage - 100);
    }
    EXPECT_EQ(found.executable_state, event::ExecutableState::ok);
  }
}

TEST_F(ArgumentsOfTheLiving, AreThoseThatTheProcessWroteOver) {
  Signpost signpost;
  Child child([&] {
    static char rewritten[] = "one\0\0two\nthree\0";
    if (!tell_arguments_are(rewritten, sizeof rewritten - 1) || !signpost.reached()) return 99;
    return ::pause();
  });
  if (!signpost.wait()) GTEST_SKIP() << "not run: this kernel has no PR_SET_MM_MAP";
  EXPECT_EQ(scan(*snapshot_).at(child.pid()).arguments, std::string("one\0\0two\nthree\0", 15));
}

}  // namespace
}  // namespace daemoneye::sensor
