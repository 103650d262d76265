# Writes the header FILE with the commit that SOURCE is at, unless it says so already.
execute_process(COMMAND git describe --always --dirty --abbrev=12 --exclude=*
    WORKING_DIRECTORY ${SOURCE} OUTPUT_VARIABLE commit ERROR_QUIET OUTPUT_STRIP_TRAILING_WHITESPACE)
if(NOT commit)
    set(commit unknown)
endif()
file(CONFIGURE OUTPUT ${FILE} CONTENT "#define FOVEA_BUILD_COMMIT \"${commit}\"\n")
