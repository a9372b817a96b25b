// A program that poses as others: put into a folder under their names, it starts what its plan says, one after the
// other, waits for each, and ends with the code it was given. Linked so that it needs no file beside itself.
//
//   stand_in --root FOLDER PLAN   runs a plan with that folder as its whole file system
//   anything (STAND_IN=PLAN in its environment)
//
// A plan is a file of texts that each end with a NUL: the exit code, then for each program: its number, its path (or
// "memfd:NAME": a file in memory of that name), its plan ("" none), how many arguments, the arguments. The number and
// the process id of each are added to /pids as a line.
#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

namespace {

[[noreturn]] void give_up(const std::string& what) {
  std::perror(("stand_in: " + what).c_str());
  std::_Exit(120);
}

std::vector<std::string> read_plan(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) give_up(path);
  const std::string all((std::istreambuf_iterator<char>(file)), {});
  std::vector<std::string> texts;
  for (std::size_t at = 0; at < all.size();) {
    const auto end = all.find('\0', at);
    texts.push_back(all.substr(at, end - at));
    at = end + 1;
  }
  return texts;
}

// This program in memory, as a file of that name.
int in_memory(const std::string& name) {
  const int self = ::open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
  const int copy = ::memfd_create(name.c_str(), MFD_CLOEXEC);
  struct stat status{};
  if (self < 0 || copy < 0 || ::fstat(self, &status) != 0) give_up(name);
  while (::sendfile(copy, self, nullptr, static_cast<std::size_t>(status.st_size)) > 0) {
  }
  return copy;
}

[[noreturn]] void become(const std::string& number, const std::string& path, const std::string& plan,
                         const std::vector<std::string>& arguments) {
  const int pids = ::open("/pids", O_WRONLY | O_APPEND | O_CLOEXEC);
  const std::string line = number + ' ' + std::to_string(::getpid()) + '\n';
  if (pids < 0 || ::write(pids, line.data(), line.size()) != static_cast<ssize_t>(line.size())) give_up("/pids");
  if (plan.empty())
    ::unsetenv("STAND_IN");
  else
    ::setenv("STAND_IN", plan.c_str(), 1);
  std::vector<char*> list;
  list.reserve(arguments.size() + 1);
  for (const auto& argument : arguments) list.push_back(const_cast<char*>(argument.c_str()));
  list.push_back(nullptr);
  constexpr std::string_view memory = "memfd:";
  if (path.starts_with(memory))
    ::fexecve(in_memory(path.substr(memory.size())), list.data(), environ);
  else
    ::execv(path.c_str(), list.data());
  give_up(path);
}

int follow(const std::string& plan_path) {
  const auto plan = read_plan(plan_path);
  std::size_t at = 1;
  while (at + 3 < plan.size()) {
    const auto count = std::strtoul(plan[at + 3].c_str(), nullptr, 10);
    const std::vector<std::string> arguments(plan.begin() + static_cast<std::ptrdiff_t>(at) + 4,
                                             plan.begin() + static_cast<std::ptrdiff_t>(at + 4 + count));
    const auto child = ::fork();
    if (child == 0) become(plan[at], plan[at + 1], plan[at + 2], arguments);
    int status = 0;
    if (child < 0 || ::waitpid(child, &status, 0) != child) give_up("fork");
    if (WIFEXITED(status) && WEXITSTATUS(status) == 120) return 120;
    at += 4 + count;
  }
  return plan.empty() ? 0 : static_cast<int>(std::strtol(plan[0].c_str(), nullptr, 10));
}

void make_root(const char* folder) {
  if (::unshare(CLONE_NEWNS) != 0) give_up("a mount namespace of its own");
  if (::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) give_up("private mounts");
  if (::mount(folder, folder, nullptr, MS_BIND | MS_REC, nullptr) != 0) give_up(folder);
  if (::chdir(folder) != 0 || ::syscall(SYS_pivot_root, ".", ".") != 0) give_up("pivot_root");
  if (::umount2(".", MNT_DETACH) != 0 || ::chdir("/") != 0) give_up("the old root");
  if (::mount("proc", "/proc", "proc", 0, nullptr) != 0) give_up("/proc");
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 4 && std::strcmp(argv[1], "--root") == 0) {
    make_root(argv[2]);
    return follow(argv[3]);
  }
  const char* const plan = std::getenv("STAND_IN");
  return plan == nullptr ? 0 : follow(plan);
}
