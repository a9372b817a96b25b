#include <cerrno>

#include "sensor/linux/procfs_reader.h"
#include "sensor/source.h"

namespace daemoneye::sensor {
namespace {

class ProcfsSnapshot final : public Snapshot {
 public:
  explicit ProcfsSnapshot(ProcReader reader) : reader_(std::move(reader)) {}
  [[nodiscard]] std::string_view name() const override { return "procfs"; }

  Result<SnapshotResult> scan(Depth depth, const std::function<void(const RawProcess&)>& each) override {
    SnapshotResult result;
    result.others_hidden = reader_.hides_others();
    DE_CHECK(reader_.list(pids_));
    for (const auto pid : pids_) {
      switch (reader_.read(pid, process_, depth)) {
        case ProcReader::Outcome::vanished: ++result.vanished; continue;
        case ProcReader::Outcome::failed:
          ++result.errors;
          result.unreadable.push_back(pid);
          continue;
        case ProcReader::Outcome::forbidden: ++result.forbidden; break;
        case ProcReader::Outcome::complete: break;
      }
      ++result.processes;
      each(process_);
    }
    return result;
  }

  [[nodiscard]] std::string limits() const override {
    return reader_.hides_others() ? "/proc hides other users' processes (hidepid): scans do not see them" : "";
  }

 private:
  ProcReader reader_;
  std::vector<event::Pid> pids_;
  RawProcess process_;
};

}  // namespace

Result<std::unique_ptr<Snapshot>> open_procfs_snapshot(const std::string& proc_path) {
  DE_TRY(auto reader, ProcReader::open(proc_path));
  return std::make_unique<ProcfsSnapshot>(std::move(reader));
}

Result<RawProcess> read_process(const std::string& proc_path, event::Pid pid) {
  DE_TRY(auto reader, ProcReader::open(proc_path));
  RawProcess process;
  switch (reader.read(pid, process)) {
    case ProcReader::Outcome::complete:
    case ProcReader::Outcome::forbidden: return process;
    case ProcReader::Outcome::vanished:
      return fail(Errc::not_found, "Process " + std::to_string(pid) + " no longer exists");
    case ProcReader::Outcome::failed: break;
  }
  return fail_errno(proc_path + "/" + std::to_string(pid), reader.last_error());
}

}  // namespace daemoneye::sensor
