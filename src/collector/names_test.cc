#include "collector/names.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>

namespace daemoneye::collector {
namespace {

using namespace std::string_literals;

sensor::RawProcess raw(const std::string& comm, const std::string& arguments = "", const std::string& filename = "",
                       const std::string& executable = "") {
  sensor::RawProcess process;
  process.comm = comm;
  if (!arguments.empty()) process.arguments = arguments;
  if (!filename.empty()) process.filename = filename;
  if (!executable.empty()) process.executable_path = executable;
  return process;
}

TEST(ProcessName, IsTheBaseNameOfTheExecutedFile) {
  EXPECT_EQ(process_name(raw("sh", "sh\0-c\0"s, "/bin/sh", "/usr/bin/dash")), "sh");
}

TEST(ProcessName, OfAScriptIsItsOwn) {
  EXPECT_EQ(process_name(raw("deploy.sh", "/bin/sh\0./deploy.sh\0"s, "./deploy.sh", "/usr/bin/dash")), "deploy.sh");
}

TEST(ProcessName, OfAScriptFoundByAScanComesFromItsComm) {
  EXPECT_EQ(process_name(raw("deploy.sh", "/bin/sh\0/opt/deploy.sh\0"s, "", "/usr/bin/dash")), "deploy.sh");
  EXPECT_EQ(process_name(raw("a-name-of-fifte", "/bin/sh\0/opt/a-name-of-fifteen-and-more\0"s, "", "/usr/bin/dash")),
            "a-name-of-fifteen-and-more");
}

TEST(ProcessName, OfADescriptorIsTheExecutableIs) {
  EXPECT_EQ(process_name(raw("3", "x\0"s, "/dev/fd/3", "/memfd:payload")), "memfd:payload");
}

TEST(ProcessName, FallsBackToTheCommWhenNothingElseIsKnown) {
  EXPECT_EQ(process_name(raw("mystery")), "mystery");
  auto thread = raw("kworker/0:1");
  thread.kernel_thread = true;
  EXPECT_EQ(process_name(thread), "kworker/0:1");
}

TEST(ContainerId, KnowsTheFormsOfEachRuntime) {
  const std::string id = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
  EXPECT_EQ(container_id("/docker/" + id), id);
  EXPECT_EQ(container_id("/system.slice/docker-" + id + ".scope"), id);
  EXPECT_EQ(container_id("/kubepods.slice/kubepods-pod1.slice/cri-containerd-" + id + ".scope"), id);
  EXPECT_EQ(container_id("/kubepods/besteffort/pod9/" + id), id);
  EXPECT_EQ(container_id("/kubepods.slice/crio-" + id + ".scope/container"), id);
  EXPECT_EQ(container_id("/machine.slice/libpod-" + id + ".scope"), id);
  EXPECT_EQ(container_id("/machine.slice/systemd-nspawn@web\\x2d1.service/payload"), "web-1");
}

TEST(ContainerId, FindsNoneOutsideContainers) {
  EXPECT_EQ(container_id("/"), std::nullopt);
  EXPECT_EQ(container_id("/system.slice/ssh.service"), std::nullopt);
  EXPECT_EQ(container_id("/system.slice/docker-0123.scope"), std::nullopt);
  EXPECT_EQ(container_id("/user.slice/machine-.scope"), std::nullopt);
}

TEST(UserNames, FollowTheFileWhenItChanges) {
  const std::string path = testing::TempDir() + "passwd." + std::to_string(::getpid());
  std::ofstream(path) << "root:x:0:0::/root:/bin/sh\nbroken line\nweb:x:33:33::/:/bin/false\n";
  UserNames names(path);
  EXPECT_EQ(names.find(33), "web");
  EXPECT_EQ(names.find(34), std::nullopt);
  std::ofstream(path) << "root:x:0:0::/root:/bin/sh\nbackup:x:34:34::/:/bin/false\n";
  // A changed file has another time: set one that surely differs, however coarse the file system's clock is.
  const timespec times[2] = {{1, 0}, {1, 0}};
  ASSERT_EQ(::utimensat(AT_FDCWD, path.c_str(), times, 0), 0);
  names.refresh();
  EXPECT_EQ(names.find(34), "backup");
  EXPECT_EQ(names.find(33), std::nullopt);
  std::remove(path.c_str());
  names.refresh();
  EXPECT_EQ(names.find(34), "backup");
}

}  // namespace
}  // namespace daemoneye::collector
