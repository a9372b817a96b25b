# What `make install` and `make package` put where. procmond is started by the agent and not by people, so it is not on
# anybody's path: the agent looks beside itself (a build folder) and in ../lib/daemoneye (an installation).
if(DAEMONEYE_FUZZ)
  return()  # no programs there
endif()
install(TARGETS app_agent app_cli RUNTIME DESTINATION bin)
install(TARGETS app_procmond RUNTIME DESTINATION lib/daemoneye)
install(DIRECTORY ${CMAKE_SOURCE_DIR}/rules/ DESTINATION share/daemoneye/rules FILES_MATCHING PATTERN "*.yaml")
install(FILES ${CMAKE_SOURCE_DIR}/LICENSE DESTINATION share/doc/daemoneye RENAME copyright)

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME daemoneye)
set(CPACK_PACKAGE_VENDOR DaemonEye)
set(CPACK_PACKAGE_CONTACT "The DaemonEye maintainers <maintainers@daemoneye.invalid>")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "Host process monitor with SQL rules and a verifiable audit ledger")
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION admin)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_DEPENDS passwd)
# Creates the service users; the same script runs in scripts/setup.
set(CPACK_DEBIAN_PACKAGE_CONTROL_EXTRA ${CMAKE_SOURCE_DIR}/packaging/postinst)
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
include(CPack)
