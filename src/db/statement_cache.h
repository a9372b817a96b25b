// Prepared statements by their text, which must be a literal of ours: a bounded set.
#pragma once

#include <string_view>
#include <unordered_map>

#include "db/database.h"

namespace daemoneye::db {

class StatementCache {
 public:
  explicit StatementCache(Database& database) : database_(database) {}
  // Reset and without bound values. Valid until the cache goes.
  Result<Statement*> get(std::string_view sql) {
    auto found = statements_.find(sql);
    if (found == statements_.end()) {
      DE_TRY(auto statement, database_.prepare(sql));
      found = statements_.emplace(sql, std::move(statement)).first;
    }
    found->second.reset();
    return &found->second;
  }
  [[nodiscard]] Database& database() { return database_; }

 private:
  Database& database_;
  std::unordered_map<std::string_view, Statement> statements_;
};

// Resets a cached statement at the end of the scope, so that it holds no read lock.
class StatementReset {
 public:
  explicit StatementReset(Statement& statement) : statement_(statement) {}
  StatementReset(const StatementReset&) = delete;
  StatementReset& operator=(const StatementReset&) = delete;
  ~StatementReset() { statement_.reset(); }

 private:
  Statement& statement_;
};

}  // namespace daemoneye::db
