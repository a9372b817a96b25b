// Alerts and what else must be written with them, in one transaction.
#pragma once

#include <functional>
#include <vector>

#include "db/statement_cache.h"
#include "store/writer.h"

namespace daemoneye::detect {

// `with` runs in the writer's thread, after the alerts, and again when the transaction is tried again.
void write_alerts(store::Writer& writer, std::vector<store::Writer::Raise> raises,
                  std::function<Result<void>(db::StatementCache&)> with,
                  std::function<void(Result<std::vector<store::RaiseResult>>)> done);

}  // namespace daemoneye::detect
