# What a compiler driver does, for Solaris x86: compile, or compile and link, by the same arguments.
#
# clang's own driver will not do: for this target it links with /usr/bin/ld whatever it is told, and for Sun's ld at that.
# Read by a script that defines two functions: `compiler` runs clang with the target's flags, `linker` ld.lld with ours and
# libc. POSIX sh: configure runs this some hundred times, so it starts nothing that it can do without.

# compile SOURCE OBJECT ARGUMENTS: what is meant for the linker among the arguments is left out.
compile() {
    source=$1 object=$2 skip=
    shift 2
    for argument do
        shift
        if [ -n "$skip" ]; then
            skip=
            continue
        fi
        case $argument in
        -o | -Xlinker) skip=yes ;;
        -Wl,* | -[lL]* | -shared | *.[ao] | *.so | *.c | *.cc | *.cpp | *.s) ;;
        *) set -- "$@" "$argument" ;;
        esac
    done
    compiler "$@" -c "$source" -o "$object"
}

# link ARGUMENTS: what is meant for the compiler is left out, and libraries that are libc's or no one's on Solaris.
link() {
    take=
    for argument do
        shift
        if [ -n "$take" ]; then
            take=
            set -- "$@" "$argument"
            continue
        fi
        case $argument in
        -o)
            take=yes
            set -- "$@" -o
            ;;
        -Xlinker) take=yes ;;
        -Wl,*)
            IFS=,
            set -f
            set -- "$@" ${argument#-Wl,}
            set +f
            unset IFS
            ;;
        -lc | -lm | -lgcc | -lgcc_s | -lgcc_eh | -lstdc++ | -lc++ | -lpthread | -ldl | -L/usr/* | -L/lib*) ;;
        -shared | -[lL]*) set -- "$@" "$argument" ;;
        -*) ;;
        *) set -- "$@" "$argument" ;;
        esac
    done
    linker "$@"
}

inputs=
for argument do
    case $argument in
    -c | -S | -E | -M | -MM | -fsyntax-only)
        compiler "$@"
        exit
        ;;
    -*) ;;
    *.[ao] | *.so | *.c | *.cc | *.cpp | *.s) inputs=yes ;;
    esac
done
if [ -z "$inputs" ]; then
    compiler "$@"
    exit
fi

made=
status=0
for argument do
    shift
    case $argument in
    *.c | *.cc | *.cpp | *.s)
        object=${argument##*/}
        object=${object%.*}.$$.o
        made="$made $object"
        compile "$argument" "$object" "$@" || status=$?
        set -- "$@" "$object"
        ;;
    *) set -- "$@" "$argument" ;;
    esac
done
if [ "$status" -eq 0 ]; then
    link "$@" || status=$?
fi
[ -z "$made" ] || rm -f $made
exit "$status"
