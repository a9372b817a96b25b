# What `make install` and `make package` put where. procmond is started by the agent and not by people, so it is not on
# anybody's path: the agent looks beside itself (a build folder) and in ../lib/daemoneye (an installation).
if(DAEMONEYE_FUZZ)
  return()  # no programs there
endif()

# Manual pages are made from the pages of docs/, completions by the program itself.
find_package(Python3 REQUIRED COMPONENTS Interpreter)
set(pages ${CMAKE_BINARY_DIR}/man)
set(completions ${CMAKE_BINARY_DIR}/completions)
set(documentation)
function(daemoneye_page name section summary source)
  cmake_parse_arguments(PAGE "" "" "SKIP" ${ARGN})
  set(skip)
  foreach(heading IN LISTS PAGE_SKIP)
    list(APPEND skip --skip ${heading})
  endforeach()
  set(out ${pages}/${name}.${section})
  set(script ${CMAKE_SOURCE_DIR}/scripts/man-page)
  file(MAKE_DIRECTORY ${pages})
  add_custom_command(OUTPUT ${out}
    COMMAND ${Python3_EXECUTABLE} ${script} ${name} ${section} ${PROJECT_VERSION} ${summary} ${CMAKE_SOURCE_DIR}/${source}
      ${skip} > ${out}
    DEPENDS ${script} ${CMAKE_SOURCE_DIR}/${source} VERBATIM)
  install(FILES ${out} DESTINATION share/man/man${section})
  set(documentation ${documentation} ${out} PARENT_SCOPE)
endfunction()
daemoneye_page(daemoneye-cli 1 "ask and change what DaemonEye saw and does" docs/commands.md)
daemoneye_page(daemoneye-config 5 "configuration of DaemonEye" docs/configuration.md)
daemoneye_page(daemoneye-rules 5 "detection rules of DaemonEye" docs/rules.md
  SKIP "How much the bundled rules say" "Cases for a bundled rule")
daemoneye_page(daemoneye-agent 8 "store process events, run rules, deliver alerts" packaging/man/daemoneye-agent.md)
daemoneye_page(procmond 8 "see processes start and end, write the audit ledger" packaging/man/procmond.md)

file(MAKE_DIRECTORY ${completions})
foreach(shell bash zsh fish)
  add_custom_command(OUTPUT ${completions}/${shell}
    COMMAND app_cli completion ${shell} > ${completions}/${shell} DEPENDS app_cli VERBATIM)
  list(APPEND documentation ${completions}/${shell})
endforeach()
add_custom_target(documentation ALL DEPENDS ${documentation})

install(TARGETS app_agent app_cli RUNTIME DESTINATION bin)
install(TARGETS app_procmond RUNTIME DESTINATION lib/daemoneye)
install(DIRECTORY ${CMAKE_SOURCE_DIR}/rules/ DESTINATION share/daemoneye/rules FILES_MATCHING PATTERN "*.yaml")
install(FILES ${CMAKE_SOURCE_DIR}/LICENSE DESTINATION share/doc/daemoneye)
install(FILES ${completions}/bash DESTINATION share/bash-completion/completions RENAME daemoneye-cli)
install(FILES ${completions}/zsh DESTINATION share/zsh/vendor-completions RENAME _daemoneye-cli)
install(FILES ${completions}/fish DESTINATION share/fish/vendor_completions.d RENAME daemoneye-cli.fish)
install(FILES ${CMAKE_SOURCE_DIR}/packaging/prometheus/daemoneye.rules.yml DESTINATION share/daemoneye/prometheus)
install(FILES ${CMAKE_SOURCE_DIR}/packaging/grafana/daemoneye.json DESTINATION share/daemoneye/grafana)
install(FILES ${CMAKE_SOURCE_DIR}/packaging/sysusers.conf DESTINATION lib/sysusers.d RENAME daemoneye.conf)
install(FILES ${CMAKE_SOURCE_DIR}/packaging/tmpfiles.conf DESTINATION lib/tmpfiles.d RENAME daemoneye.conf)
# The book, with the paths that its links have.
install(FILES ${CMAKE_SOURCE_DIR}/README.md ${CMAKE_SOURCE_DIR}/SECURITY.md ${CMAKE_SOURCE_DIR}/ARCHITECTURE.md
        DESTINATION share/doc/daemoneye)
install(DIRECTORY ${CMAKE_SOURCE_DIR}/docs DESTINATION share/doc/daemoneye FILES_MATCHING PATTERN "*.md")
install(SCRIPT ${CMAKE_SOURCE_DIR}/cmake/install_machine.cmake)
