/*
 * QEMU is linked to a disassembler, which prints translated code in its logs and for
 * the monitor's x command. A machine has neither, and the real library costs each QEMU
 * 1.3 MiB of relocations, and the time of some 370 page faults. The preloaded library
 * bears its name (see the Makefile), so that the loader takes it for libcapstone 4, and
 * has its functions: QEMU prints bytes where cs_open fails. Another version has another
 * name, and is loaded as ever. Other builds of QEMU may want more of version 4 than
 * Debian's, so all of it is here.
 */
#define CS_ERR_ARCH 2

int cs_open(void) { return CS_ERR_ARCH; }

#define NOTHING(name) long name(void) { return 0; }

NOTHING(cs_version)
NOTHING(cs_support)
NOTHING(cs_close)
NOTHING(cs_option)
NOTHING(cs_errno)
NOTHING(cs_strerror)
NOTHING(cs_disasm)
NOTHING(cs_disasm_iter)
NOTHING(cs_malloc)
NOTHING(cs_free)
NOTHING(cs_reg_name)
NOTHING(cs_insn_name)
NOTHING(cs_group_name)
NOTHING(cs_insn_group)
NOTHING(cs_reg_read)
NOTHING(cs_reg_write)
NOTHING(cs_op_count)
NOTHING(cs_op_index)
NOTHING(cs_regs_access)
