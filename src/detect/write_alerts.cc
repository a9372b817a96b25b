#include "detect/write_alerts.h"

#include <memory>
#include <utility>

#include "store/alert_table.h"

namespace daemoneye::detect {

void write_alerts(store::Writer& writer, std::vector<store::Writer::Raise> raises,
                  std::function<Result<void>(db::StatementCache&)> with,
                  std::function<void(Result<std::vector<store::RaiseResult>>)> done) {
  auto results = std::make_shared<std::vector<store::RaiseResult>>();  // of the writer's thread, given to `done`
  writer.change(
      [raises = std::move(raises), with = std::move(with), results](db::StatementCache& statements) -> Result<void> {
        results->clear();  // the transaction may be tried again
        for (const auto& raise : raises) {
          DE_TRY(auto result, store::write_alert(statements, raise));
          results->push_back(std::move(result));
        }
        return with(statements);
      },
      [results, done = std::move(done)](const Result<void>& outcome) {
        if (outcome)
          done(std::move(*results));
        else
          done(std::unexpected(outcome.error()));
      });
}

}  // namespace daemoneye::detect
