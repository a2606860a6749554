cat > Makefile <<'EOF'
HEADERS := $(filter-out %/user_namespace.h,$(shell find /usr/include/linux -maxdepth 1 -name '*.h' | sort | head -n 300))
all: $(patsubst /usr/include/linux/%,out/%.o,$(HEADERS))
	@cat $^ | sha256sum; ls out/*.o | wc -l
out/%.h.o:
	@mkdir -p $(@D)
	@printf '#include <linux/%s.h>\nint $(subst -,_,$*)_[sizeof(long)];\n' '$*' > out/$*.c; \
	if gcc -w -O1 -c out/$*.c -o $@ 2> out/$*.err; then strip $@; else sort out/$*.err | head -n 1 > $@; fi; \
	for word in $$(head -n 20 out/$*.c); do (echo $$word | tr a-z A-Z | sed s/X/Y/ | wc -c) >> out/$*.words; done
EOF
say make make -j 8
say words bash -c 'cat out/*.words | sort | uniq -c'
say again make -j 8 -q
say recursive bash -c 'printf "all:\n\t@[ \$(N) -le 0 ] || \$(MAKE) --no-print-directory -j 3 -f d.mk N=\$\$((\$(N) - 1)) all\n\t@echo level \$(N)\n" > d.mk; make --no-print-directory -j 3 -f d.mk N=40'
say dry bash -c 'make -n -B -j 4 | sha256sum; make -p -q | grep -c "^out/"'
