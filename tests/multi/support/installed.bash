# What tests of an installed Weft begin with: it lies in $place/opt/weft ($root), pkg-config finds it there, and all of $place
# goes with the test.
make=${MAKE:-make}
case $BUILD in
*asan | *tsan)
    echo "a sanitizer build is not for installing"
    exit 77
    ;;
esac
command -v pkg-config >/dev/null || { echo "pkg-config is not there"; exit 77; }
fail() {
    echo "$*"
    exit 1
}

place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
root=$place/opt/weft
$make --no-print-directory BUILD="$BUILD" PREFIX=/opt/weft DESTDIR="$place" install >"$place/log" 2>&1 ||
    { cat "$place/log"; fail "make install failed"; }
export PKG_CONFIG_PATH=$root/lib/pkgconfig PKG_CONFIG_SYSROOT_DIR=$place
