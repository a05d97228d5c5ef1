// SPDX-License-Identifier: GPL-2.0
/*
 * The seam lab: what Linux's TDX host code needs of a processor, on one that has neither VMX nor SEAM.
 *
 * The kernel's own code asks three things of the machine, and each is answered here without changing it:
 *
 *  - registers and CPUID bits, which go through the paravirt operations: four of them are replaced;
 *  - instructions that the processor lacks (SEAMCALL, VMX instructions, MOVDIR64B), which raise #UD: a die notifier
 *    does what they would have done and steps over them;
 *  - the TDX module: a SEAMCALL's registers go to a process outside the machine by a page of memory, and come back.
 *
 * And one that Linux does not ask for: KVM_TDX_TERMINATE_VM, which was posted and is in no released kernel. See there.
 *
 * Nothing of this acts unless the command line has "seamlab=mailbox".
 *
 * The mailbox, version 2. There is one page for each processor, of 64-bit words: the state (0 idle, 1 asked,
 * 2 answered, 3 an order is given), whether an interrupt waits for the processor, and the registers RAX, RCX, RDX,
 * RBX, RBP, RSI, RDI, R8 ... R15. Who asks fills in the registers, sets the state and writes the processor's number to
 * port 0xe9; who answers fills in the registers and sets the state. An order is for the process itself: a line of text
 * at byte 1024, which a 0 ends; the answer's RAX is 0, or 1 if it is not understood. Before the first call the port
 * carries one line: "seamlab 2 PAGES PROCESSORS MKTME TDX BITS", where PAGES is the physical address of the first page
 * in hexadecimal, MKTME and TDX are numbers of key ids, and BITS are those of a physical address without the key id.
 */
#define pr_fmt(fmt) "seamlab: " fmt

#include <linux/bitops.h>
#include <linux/cpu.h>
#include <linux/debugfs.h>
#include <linux/gfp.h>
#include <linux/init.h>
#include <linux/io.h>
#include <linux/kallsyms.h>
#include <linux/kdebug.h>
#include <linux/kernel.h>
#include <linux/kvm_host.h>
#include <linux/misc_cgroup.h>
#include <linux/notifier.h>
#include <linux/percpu.h>
#include <linux/seq_file.h>
#include <linux/smp.h>
#include <linux/static_call.h>
#include <linux/string.h>
#include <linux/topology.h>
#include <linux/uaccess.h>
#include <asm/apic.h>
#include <asm/cpufeature.h>
#include <asm/cpuid/api.h>
#include <asm/insn.h>
#include <asm/insn-eval.h>
#include <asm/irq_vectors.h>
#include <asm/msr.h>
#include <asm/paravirt.h>
#include <asm/processor.h>
#include <asm/special_insns.h>
#include <asm/tdx.h>
#include <asm/tlbflush.h>
#include <asm/trapnr.h>
#include <asm/vmx.h>

/* KVM's own view of a TD. */
#include "mmu/spte.h"
#include "vmx/tdx.h"

#ifndef CONFIG_PARAVIRT_XXL
#error "MSR and CPUID reads must be paravirt operations: CONFIG_PARAVIRT_XXL, which CONFIG_XEN_PV selects"
#endif

#define SEAMLAB_VERSION		2
#define SEAMLAB_PORT		0xe9

/* Not named in the kernel's headers where this file can reach them. */
#define SEAMLAB_MSR_KEYID_PARTITIONING	0x87
#define SEAMLAB_MSR_TME_ACTIVATE	0x982

static bool seamlab_on;
static unsigned int seamlab_mktme_keys = 31;
static unsigned int seamlab_tdx_keys = 32;
/* Bits of a physical address that hold the key id; the address proper has what is left of 52. */
static unsigned int seamlab_keyid_bits = 6;

/* ---- The processor's registers ---- */

struct seamlab_msr {
	u32 number;
	u64 value;
};

/*
 * VMX capabilities: allowed settings in the upper half of a control's register, required ones in the lower half. The
 * values are those of a server processor with TDX, as far as KVM asks for them; registers and their TRUE forms agree.
 */
static const struct seamlab_msr seamlab_vmx[] = {
	{ MSR_IA32_VMX_PINBASED_CTLS,		0x000000bf00000016 },
	{ MSR_IA32_VMX_TRUE_PINBASED_CTLS,	0x000000bf00000016 },
	{ MSR_IA32_VMX_PROCBASED_CTLS,		0xfff9fffe0401e172 },
	{ MSR_IA32_VMX_TRUE_PROCBASED_CTLS,	0xfff9fffe0401e172 },
	{ MSR_IA32_VMX_PROCBASED_CTLS2,		0x02177fff00000000 },
	{ MSR_IA32_VMX_PROCBASED_CTLS3,		0 },
	{ MSR_IA32_VMX_EXIT_CTLS,		0x003fffff00036dff },
	{ MSR_IA32_VMX_TRUE_EXIT_CTLS,		0x003fffff00036dff },
	{ MSR_IA32_VMX_ENTRY_CTLS,		0x0000ffff000011ff },
	{ MSR_IA32_VMX_TRUE_ENTRY_CTLS,		0x0000ffff000011ff },
	{ MSR_IA32_VMX_MISC,			0x00000000200401e5 },
	{ MSR_IA32_VMX_CR0_FIXED0,		0x0000000080000021 },
	{ MSR_IA32_VMX_CR0_FIXED1,		0x00000000ffffffff },
	{ MSR_IA32_VMX_CR4_FIXED0,		0x0000000000002000 },
	{ MSR_IA32_VMX_CR4_FIXED1,		0x0000000000f767ff },
	{ MSR_IA32_VMX_VMCS_ENUM,		0x000000000000002e },
	/* EPT of 4 and 5 levels, write-back, accessed and dirty bits, INVEPT and INVVPID of all kinds. */
	{ MSR_IA32_VMX_EPT_VPID_CAP,		0x00000f01063341c1 },
	{ MSR_IA32_VMX_VMFUNC,			1 },
};

static bool seamlab_read(u32 number, u64 *value)
{
	int i;

	switch (number) {
	case MSR_IA32_FEAT_CTL:
		*value = FEAT_CTL_LOCKED | FEAT_CTL_VMX_ENABLED_OUTSIDE_SMX;
		return true;
	case SEAMLAB_MSR_TME_ACTIVATE:
		/* Locked and enabled. */
		*value = BIT_ULL(0) | BIT_ULL(1) | (u64)seamlab_keyid_bits << 32;
		return true;
	case SEAMLAB_MSR_KEYID_PARTITIONING:
		*value = (u64)seamlab_tdx_keys << 32 | seamlab_mktme_keys;
		return true;
	case MSR_IA32_VMX_BASIC:
		*value = vmx_basic_encode_vmcs_info(1, PAGE_SIZE, X86_MEMTYPE_WB) | VMX_BASIC_INOUT |
			 VMX_BASIC_TRUE_CTLS | VMX_BASIC_NO_SEAMRET_INVD_VMCS;
		return true;
	}
	for (i = 0; i < ARRAY_SIZE(seamlab_vmx); i++) {
		if (seamlab_vmx[i].number == number) {
			*value = seamlab_vmx[i].value;
			return true;
		}
	}
	return false;
}

static u64 seamlab_read_msr(u32 number)
{
	u64 value;

	return seamlab_read(number, &value) ? value : native_read_msr(number);
}

static int seamlab_read_msr_safe(u32 number, u64 *value)
{
	return seamlab_read(number, value) ? 0 : native_read_msr_safe(number, value);
}

static void seamlab_cpuid(unsigned int *eax, unsigned int *ebx, unsigned int *ecx, unsigned int *edx)
{
	unsigned int leaf = *eax, subleaf = *ecx;

	native_cpuid(eax, ebx, ecx, edx);
	switch (leaf) {
	case 1:
		*ecx |= BIT(5);			/* VMX */
		*edx |= BIT(27);		/* self-snoop */
		break;
	case 7:
		if (!subleaf)
			*ecx |= BIT(13) | BIT(28);	/* TME, MOVDIR64B */
		break;
	case 0x80000001:
		/* A processor has SVM or VMX; the kernel refuses to use either of one that seems to have both. */
		*ecx &= ~BIT(2);
		break;
	case 0x80000008:
		*eax = (*eax & ~0xffu) | 52;
		break;
	}
}

/* QEMU's software processor repeats a MOV to CR4 that sets VMXE for ever; nothing here depends on the bit. */
static void seamlab_write_cr4(unsigned long value)
{
	native_write_cr4(value & ~X86_CR4_VMXE);
}

/*
 * Early parameters are read after the first look at the boot processor, before it is identified for good, and before
 * paravirt calls are patched to direct ones: the one moment when replacing the operations reaches everything.
 */
static int __init seamlab_parameter(char *word)
{
	if (!word || strcmp(word, "mailbox"))
		return -EINVAL;
	seamlab_on = true;
	pv_ops.cpu.read_msr = seamlab_read_msr;
	pv_ops.cpu.read_msr_safe = seamlab_read_msr_safe;
	pv_ops.cpu.cpuid = seamlab_cpuid;
	pv_ops.cpu.write_cr4 = seamlab_write_cr4;
	/* The first look took this processor for one with L1TF, which none with TDX has; KVM would warn of 52 bits. */
	clear_bit(X86_BUG_L1TF, (unsigned long *)cpu_caps_set);
	clear_cpu_cap(&boot_cpu_data, X86_BUG_L1TF);
	return 0;
}
early_param("seamlab", seamlab_parameter);

static int __init seamlab_mktme_parameter(char *word)
{
	return word ? kstrtouint(word, 0, &seamlab_mktme_keys) : -EINVAL;
}
early_param("seamlab.mktme", seamlab_mktme_parameter);

static int __init seamlab_tdx_parameter(char *word)
{
	return word ? kstrtouint(word, 0, &seamlab_tdx_keys) : -EINVAL;
}
early_param("seamlab.tdx", seamlab_tdx_parameter);

/* ---- The mailbox ---- */

enum { RAX, RCX, RDX, RBX, RBP, RSI, RDI, R8, R9, R10, R11, R12, R13, R14, R15, SEAMLAB_REGISTERS };

static const u8 seamlab_places[SEAMLAB_REGISTERS] = {
	[RAX] = offsetof(struct pt_regs, ax),
	[RCX] = offsetof(struct pt_regs, cx),
	[RDX] = offsetof(struct pt_regs, dx),
	[RBX] = offsetof(struct pt_regs, bx),
	[RBP] = offsetof(struct pt_regs, bp),
	[RSI] = offsetof(struct pt_regs, si),
	[RDI] = offsetof(struct pt_regs, di),
	[R8] = offsetof(struct pt_regs, r8),
	[R9] = offsetof(struct pt_regs, r9),
	[R10] = offsetof(struct pt_regs, r10),
	[R11] = offsetof(struct pt_regs, r11),
	[R12] = offsetof(struct pt_regs, r12),
	[R13] = offsetof(struct pt_regs, r13),
	[R14] = offsetof(struct pt_regs, r14),
	[R15] = offsetof(struct pt_regs, r15),
};

static unsigned long *seamlab_register(struct pt_regs *regs, int which)
{
	return (void *)regs + seamlab_places[which];
}

enum { SEAMLAB_IDLE, SEAMLAB_ASKED, SEAMLAB_ANSWERED, SEAMLAB_ORDERED };

struct seamlab_box {
	u64 state;
	u64 interrupt;
	u64 registers[SEAMLAB_REGISTERS];
};

static void *seamlab_boxes;

/* Where the text of an order is in a page, and its longest with the 0. */
#define SEAMLAB_ORDER_PLACE	1024
#define SEAMLAB_ORDER_LENGTH	256

/* SEAMCALLs by leaf; the last is for every leaf from there on. */
#define SEAMLAB_LEAVES		128
static DEFINE_PER_CPU(u64 [SEAMLAB_LEAVES], seamlab_calls);

/* Whether the local APIC has accepted an interrupt that this processor has not taken yet. */
static bool seamlab_interrupt_waits(void)
{
	int word;

	for (word = 0; word < 8; word++)
		if (apic_read(APIC_IRR + word * 0x10))
			return true;
	return false;
}

/* TDH.VP.ENTER is leaf 0; the exit reason 1, in its status, is an external interrupt. */
#define SEAMLAB_VP_ENTER		0
#define SEAMLAB_INTERRUPT_EXIT		1ULL

/*
 * Interrupts are off, as in a real SEAMCALL, so the page is this processor's alone until the answer is there. The other
 * side needs nothing of this kernel, so waiting for it cannot block.
 */
static void seamlab_seamcall(struct pt_regs *regs)
{
	unsigned int cpu = raw_smp_processor_id();
	struct seamlab_box *box = seamlab_boxes + cpu * PAGE_SIZE;
	u64 leaf = regs->ax & 0xffff;
	int i;

	/* Calls to the persistent loader: VMfailInvalid, as where none is loaded. */
	if (regs->ax >> 63) {
		regs->flags |= X86_EFLAGS_CF;
		return;
	}
	this_cpu_inc(seamlab_calls[min_t(u64, leaf, SEAMLAB_LEAVES - 1)]);
	for (i = 0; i < SEAMLAB_REGISTERS; i++)
		box->registers[i] = *seamlab_register(regs, i);
	box->interrupt = 0;
	smp_store_release(&box->state, SEAMLAB_ASKED);
	outb(cpu, SEAMLAB_PORT);
	while (smp_load_acquire(&box->state) != SEAMLAB_ANSWERED) {
		/* A guest is interrupted by what arrives while it runs. */
		if (leaf == SEAMLAB_VP_ENTER && !READ_ONCE(box->interrupt) && seamlab_interrupt_waits())
			WRITE_ONCE(box->interrupt, 1);
		cpu_relax();
	}
	/*
	 * An exit for an interrupt names the vector that the processor has acknowledged, and KVM calls its handler. This
	 * processor can acknowledge nothing without taking it, so the exit names a vector whose handler does nothing; the
	 * interrupt itself is taken when KVM lets interrupts in, right afterwards.
	 */
	if (leaf == SEAMLAB_VP_ENTER && box->registers[RAX] == SEAMLAB_INTERRUPT_EXIT)
		box->registers[R9] = INTR_INFO_VALID_MASK | INTR_TYPE_EXT_INTR | POSTED_INTR_VECTOR;
	for (i = 0; i < SEAMLAB_REGISTERS; i++)
		if (i != RBP)
			*seamlab_register(regs, i) = box->registers[i];
	box->state = SEAMLAB_IDLE;
}

/* A line for the process outside. */
static int seamlab_order(const char *text)
{
	struct seamlab_box *box;
	unsigned long flags;
	unsigned int cpu;
	int r;

	local_irq_save(flags);
	cpu = raw_smp_processor_id();
	box = seamlab_boxes + cpu * PAGE_SIZE;
	strscpy((char *)box + SEAMLAB_ORDER_PLACE, text, SEAMLAB_ORDER_LENGTH);
	smp_store_release(&box->state, SEAMLAB_ORDERED);
	outb(cpu, SEAMLAB_PORT);
	while (smp_load_acquire(&box->state) != SEAMLAB_ANSWERED)
		cpu_relax();
	r = box->registers[RAX] ? -EINVAL : 0;
	box->state = SEAMLAB_IDLE;
	local_irq_restore(flags);
	return r;
}

/* ---- Instructions ---- */

enum seamlab_instruction {
	SEAMLAB_VMXON, SEAMLAB_VMXOFF, SEAMLAB_VMCS, SEAMLAB_INVEPT, SEAMLAB_INVVPID, SEAMLAB_VMENTRY,
	SEAMLAB_MOVDIR64B, SEAMLAB_SEAMCALL, SEAMLAB_INSTRUCTIONS, SEAMLAB_UNKNOWN = -1,
};

static const char *const seamlab_names[SEAMLAB_INSTRUCTIONS] = {
	"vmxon", "vmxoff", "vmcs", "invept", "invvpid", "vmentry", "movdir64b", "seamcall",
};

static DEFINE_PER_CPU(u64 [SEAMLAB_INSTRUCTIONS], seamlab_counts);

static bool seamlab_prefixed(struct insn *insn, u8 prefix)
{
	insn_byte_t byte;

	for_each_insn_prefix(insn, byte)
		if (byte == prefix)
			return true;
	return false;
}

static enum seamlab_instruction seamlab_decode(struct insn *insn)
{
	const u8 *op = insn->opcode.bytes;
	u8 modrm = insn->modrm.bytes[0];

	if (op[0] != 0x0f)
		return SEAMLAB_UNKNOWN;
	switch (op[1]) {
	case 0x01:
		switch (modrm) {
		case 0xc2:
		case 0xc3:
			return SEAMLAB_VMENTRY;
		case 0xc4:
			return SEAMLAB_VMXOFF;
		case 0xcf:
			return seamlab_prefixed(insn, 0x66) ? SEAMLAB_SEAMCALL : SEAMLAB_UNKNOWN;
		}
		return SEAMLAB_UNKNOWN;
	case 0x78:
	case 0x79:
		return SEAMLAB_VMCS;
	case 0xc7:
		if (X86_MODRM_REG(modrm) < 6)
			return SEAMLAB_UNKNOWN;
		return seamlab_prefixed(insn, 0xf3) ? SEAMLAB_VMXON : SEAMLAB_VMCS;
	case 0x38:
		switch (op[2]) {
		case 0x80:
			return SEAMLAB_INVEPT;
		case 0x81:
			return SEAMLAB_INVVPID;
		case 0xf8:
			return seamlab_prefixed(insn, 0x66) ? SEAMLAB_MOVDIR64B : SEAMLAB_UNKNOWN;
		}
	}
	return SEAMLAB_UNKNOWN;
}

#define SEAMLAB_FLAGS (X86_EFLAGS_CF | X86_EFLAGS_PF | X86_EFLAGS_AF | X86_EFLAGS_ZF | X86_EFLAGS_SF | X86_EFLAGS_OF)

/* What the instruction would have done. VMX instructions succeed and do nothing, but for VM entries, which fail. */
static bool seamlab_perform(enum seamlab_instruction what, struct pt_regs *regs, struct insn *insn)
{
	void __user *source;
	int offset;

	switch (what) {
	case SEAMLAB_MOVDIR64B:
		offset = insn_get_modrm_reg_off(insn, regs);
		source = insn_get_addr_ref(insn, regs);
		if (offset < 0 || source == (void __user *)-1L)
			return false;
		memcpy(*(void **)((void *)regs + offset), (void __force *)source, 64);
		return true;
	case SEAMLAB_SEAMCALL:
		regs->flags &= ~SEAMLAB_FLAGS;
		seamlab_seamcall(regs);
		return true;
	case SEAMLAB_VMENTRY:
		/* VMfailInvalid: no VMCS is current. */
		regs->flags = (regs->flags & ~SEAMLAB_FLAGS) | X86_EFLAGS_CF;
		return true;
	case SEAMLAB_VMXON:
		/* TLB flushes write this shadow of CR4 past the paravirt operations. */
		this_cpu_write(cpu_tlbstate.cr4, this_cpu_read(cpu_tlbstate.cr4) & ~X86_CR4_VMXE);
		break;
	case SEAMLAB_VMCS:
		/* VMREAD into a register: every field is 0. */
		offset = insn_get_modrm_rm_off(insn, regs);
		if (insn->opcode.bytes[1] == 0x78 && X86_MODRM_MOD(insn->modrm.bytes[0]) == 3 && offset >= 0)
			*(unsigned long *)((void *)regs + offset) = 0;
		break;
	default:
		break;
	}
	regs->flags &= ~SEAMLAB_FLAGS;
	return true;
}

static int seamlab_died(struct notifier_block *block, unsigned long event, void *data)
{
	struct die_args *args = data;
	struct pt_regs *regs = args->regs;
	enum seamlab_instruction what;
	struct insn insn;

	if (event != DIE_TRAP || args->trapnr != X86_TRAP_UD || user_mode(regs))
		return NOTIFY_DONE;
	if (insn_decode_kernel(&insn, (void *)regs->ip) < 0)
		return NOTIFY_DONE;
	what = seamlab_decode(&insn);
	if (what == SEAMLAB_UNKNOWN || !seamlab_perform(what, regs, &insn))
		return NOTIFY_DONE;
	this_cpu_inc(seamlab_counts[what]);
	regs->ip += insn.length;
	return NOTIFY_STOP;
}

/* First in the chain: what it handles is no death. */
static struct notifier_block seamlab_block = { .notifier_call = seamlab_died, .priority = INT_MAX };

static void __init seamlab_announce(void)
{
	char line[96];
	int i, length;

	length = scnprintf(line, sizeof(line), "seamlab %u %llx %u %u %u %u\n", SEAMLAB_VERSION,
			   (u64)__pa(seamlab_boxes), nr_cpu_ids, seamlab_mktme_keys, seamlab_tdx_keys,
			   boot_cpu_data.x86_phys_bits);
	for (i = 0; i < length; i++)
		outb(line[i], SEAMLAB_PORT);
}

/* Before subsys_initcall, where the kernel initialises the module. */
static int __init seamlab_start(void)
{
	if (!seamlab_on)
		return 0;
	seamlab_boxes = alloc_pages_exact(nr_cpu_ids * PAGE_SIZE, GFP_KERNEL | __GFP_ZERO);
	if (!seamlab_boxes)
		return -ENOMEM;
	seamlab_announce();
	pr_info("no processor with TDX: SEAMCALLs go to a process outside this machine\n");
	return register_die_notifier(&seamlab_block);
}
early_initcall(seamlab_start);

/* ---- KVM_TDX_TERMINATE_VM ---- */

/*
 * What was posted for KVM: a command of KVM_MEMORY_ENCRYPT_OP on a TD's VM that releases its key id while memory and
 * descriptors are still there. All vCPUs can be locked or the answer is EBUSY; the VM is dead; its vCPUs are flushed
 * and the key id is released with the MMU lock held for writing, so that no removal of a page is half-way; and from
 * then on a private page leaves by one TDH.PHYMEM.PAGE.RECLAIM, where the kernel as released sees a bug.
 *
 * Two of KVM's operations are replaced for it, by the static calls that KVM makes to its vendor's code. What they need
 * and cannot name is found by its symbol.
 */

#define SEAMLAB_TERMINATE_VM		6
/* struct kvm_tdx_capabilities: supported_caps, where the released kernel has its first reserved word. */
#define SEAMLAB_SUPPORTED_CAPS		48
#define SEAMLAB_CAP_TERMINATE_VM	BIT_ULL(0)

static const char *const seamlab_terminations[] = { "absent", "announced", "unannounced" };
enum { SEAMLAB_ABSENT, SEAMLAB_ANNOUNCED, SEAMLAB_UNANNOUNCED };
static int seamlab_termination = SEAMLAB_ABSENT;

static int (*seamlab_kvm_ioctl)(struct kvm *kvm, void __user *argp);
static typeof(kvm_x86_ops.set_external_spte) seamlab_kvm_set_spte;
static void (*seamlab_kvm_flush_vcpu)(struct kvm_vcpu *vcpu);
static smp_call_func_t seamlab_kvm_write_back;
/* KVM's lock around what only one processor may ask of the module at a time. */
static struct mutex *seamlab_kvm_lock;

static struct kvm_tdx *seamlab_td(struct kvm *kvm)
{
	return container_of(kvm, struct kvm_tdx, kvm);
}

/* A TD that had a key id and has released it, while its memory is still there. */
static bool seamlab_terminated(struct kvm *kvm)
{
	struct kvm_tdx *td = seamlab_td(kvm);

	return td->state != TD_STATE_UNINITIALIZED && td->hkid <= 0;
}

/* A SEAMCALL that ends a TD was refused: as KVM does, tell, and let nobody use the VM. */
static bool seamlab_refused(struct kvm *kvm, const char *call, u64 status)
{
	if (!status)
		return false;
	if (!kvm->vm_bugged) {
		kvm_vm_bugged(kvm);
		pr_err("SEAMCALL %s failed: 0x%llx\n", call, status);
	}
	return true;
}

static void seamlab_release_key(struct kvm *kvm)
{
	/* Used under KVM's lock alone. */
	static cpumask_t processors;
	struct kvm_tdx *td = seamlab_td(kvm);
	struct kvm_vcpu *vcpu;
	unsigned long i;
	int cpu;

	cpus_read_lock();
	mutex_lock(seamlab_kvm_lock);
	write_lock(&kvm->mmu_lock);
	if (td->hkid <= 0)
		goto out;
	kvm_for_each_vcpu(i, vcpu, kvm)
		seamlab_kvm_flush_vcpu(vcpu);
	if (seamlab_refused(kvm, "TDH_MNG_VPFLUSHDONE", tdh_mng_vpflushdone(&td->td)))
		goto out;
	/* Caches belong to a package: the first processor of each writes them back. */
	cpumask_clear(&processors);
	for_each_online_cpu(cpu)
		if (cpumask_first(topology_core_cpumask(cpu)) == cpu)
			cpumask_set_cpu(cpu, &processors);
	on_each_cpu_mask(&processors, seamlab_kvm_write_back, NULL, true);
	if (seamlab_refused(kvm, "TDH_MNG_KEY_FREEID", tdh_mng_key_freeid(&td->td)))
		goto out;
	tdx_guest_keyid_free(td->hkid);
	td->hkid = -1;
	misc_cg_uncharge(MISC_CG_RES_TDX, td->misc_cg, 1);
	put_misc_cg(td->misc_cg);
	td->misc_cg = NULL;
out:
	write_unlock(&kvm->mmu_lock);
	mutex_unlock(seamlab_kvm_lock);
	cpus_read_unlock();
}

static int seamlab_terminate(struct kvm *kvm)
{
	mutex_lock(&kvm->lock);
	if (kvm_trylock_all_vcpus(kvm)) {
		mutex_unlock(&kvm->lock);
		return -EBUSY;
	}
	kvm_vm_dead(kvm);
	kvm_unlock_all_vcpus(kvm);
	seamlab_release_key(kvm);
	mutex_unlock(&kvm->lock);
	return 0;
}

static int seamlab_ioctl(struct kvm *kvm, void __user *argp)
{
	u64 __user *caps;
	struct kvm_tdx_cmd cmd;
	u64 word;
	int r;

	if (READ_ONCE(seamlab_termination) == SEAMLAB_ABSENT || kvm->arch.vm_type != KVM_X86_TDX_VM ||
	    copy_from_user(&cmd, argp, sizeof(cmd)))
		return seamlab_kvm_ioctl(kvm, argp);
	if (cmd.id == SEAMLAB_TERMINATE_VM)
		return cmd.hw_error || cmd.flags ? -EINVAL : seamlab_terminate(kvm);
	r = seamlab_kvm_ioctl(kvm, argp);
	if (r || cmd.id != KVM_TDX_CAPABILITIES || READ_ONCE(seamlab_termination) != SEAMLAB_ANNOUNCED)
		return r;
	caps = u64_to_user_ptr(cmd.data + SEAMLAB_SUPPORTED_CAPS);
	if (get_user(word, caps) || put_user(word | SEAMLAB_CAP_TERMINATE_VM, caps))
		return -EFAULT;
	return 0;
}

/* A page of the Secure EPT changes, with the MMU lock held. */
static int seamlab_set_spte(struct kvm *kvm, gfn_t gfn, u64 old_spte, u64 new_spte, enum pg_level level)
{
	u64 type, owner, size;
	kvm_pfn_t pfn;

	if (!is_shadow_present_pte(old_spte) || !seamlab_terminated(kvm))
		return seamlab_kvm_set_spte(kvm, gfn, old_spte, new_spte, level);
	pfn = spte_to_pfn(old_spte);
	if (seamlab_refused(kvm, "TDH_PHYMEM_PAGE_RECLAIM",
			    tdh_phymem_page_reclaim(pfn_to_page(pfn), &type, &owner, &size)))
		return -EIO;
	tdx_quirk_reset_paddr(PFN_PHYS(pfn), PAGE_SIZE);
	return 0;
}

static int __init seamlab_termination_parameter(char *word)
{
	int which = word ? match_string(seamlab_terminations, ARRAY_SIZE(seamlab_terminations), word) : -EINVAL;

	if (which < 0)
		return which;
	seamlab_termination = which;
	return 0;
}
early_param("seamlab.terminate", seamlab_termination_parameter);

/* Once KVM has chosen its vendor's operations: static calls are patched, so nobody pays for what is not asked for. */
static int __init seamlab_hook_kvm(void)
{
	if (!seamlab_on || !kvm_x86_ops.set_external_spte)
		return 0;
	seamlab_kvm_flush_vcpu = (void *)kallsyms_lookup_name("tdx_flush_vp_on_cpu");
	seamlab_kvm_write_back = (void *)kallsyms_lookup_name("smp_func_do_phymem_cache_wb");
	seamlab_kvm_lock = (void *)kallsyms_lookup_name("tdx_lock");
	if (!seamlab_kvm_flush_vcpu || !seamlab_kvm_write_back || !seamlab_kvm_lock) {
		pr_err("this kernel lacks a symbol that KVM_TDX_TERMINATE_VM is made of: it stays absent\n");
		seamlab_termination = SEAMLAB_ABSENT;
		return 0;
	}
	seamlab_kvm_ioctl = kvm_x86_ops.mem_enc_ioctl;
	seamlab_kvm_set_spte = kvm_x86_ops.set_external_spte;
	kvm_x86_ops.mem_enc_ioctl = seamlab_ioctl;
	kvm_x86_ops.set_external_spte = seamlab_set_spte;
	static_call_update(kvm_x86_mem_enc_ioctl, seamlab_ioctl);
	static_call_update(kvm_x86_set_external_spte, seamlab_set_spte);
	return 0;
}
late_initcall(seamlab_hook_kvm);

/* ---- debugfs: seamlab/ ---- */

/* Instructions that were done for the processor. */
static int seamlab_instructions_show(struct seq_file *file, void *unused)
{
	int which, cpu;

	for (which = 0; which < SEAMLAB_INSTRUCTIONS; which++) {
		u64 sum = 0;

		for_each_possible_cpu(cpu)
			sum += per_cpu(seamlab_counts, cpu)[which];
		seq_printf(file, "%s %llu\n", seamlab_names[which], sum);
	}
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(seamlab_instructions);

/* SEAMCALLs by leaf, of leaves that were called. */
static int seamlab_calls_show(struct seq_file *file, void *unused)
{
	int leaf, cpu;

	for (leaf = 0; leaf < SEAMLAB_LEAVES; leaf++) {
		u64 sum = 0;

		for_each_possible_cpu(cpu)
			sum += per_cpu(seamlab_calls, cpu)[leaf];
		if (sum)
			seq_printf(file, "%d %llu\n", leaf, sum);
	}
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(seamlab_calls);

/* A line that was written, without its end. */
static ssize_t seamlab_line(char *line, size_t room, const char __user *text, size_t length)
{
	if (length >= room)
		return -EINVAL;
	if (copy_from_user(line, text, length))
		return -EFAULT;
	line[length] = 0;
	strim(line);
	return 0;
}

static ssize_t seamlab_order_write(struct file *file, const char __user *text, size_t length, loff_t *place)
{
	char line[SEAMLAB_ORDER_LENGTH];
	ssize_t r = seamlab_line(line, sizeof(line), text, length);

	if (!r)
		r = seamlab_order(line);
	return r ? r : length;
}

static const struct file_operations seamlab_order_fops = { .write = seamlab_order_write };

static int seamlab_terminate_show(struct seq_file *file, void *unused)
{
	seq_printf(file, "%s\n", seamlab_terminations[READ_ONCE(seamlab_termination)]);
	return 0;
}

static int seamlab_terminate_open(struct inode *inode, struct file *file)
{
	return single_open(file, seamlab_terminate_show, NULL);
}

static ssize_t seamlab_terminate_write(struct file *file, const char __user *text, size_t length, loff_t *place)
{
	char line[16];
	ssize_t r = seamlab_line(line, sizeof(line), text, length);

	if (!r)
		r = match_string(seamlab_terminations, ARRAY_SIZE(seamlab_terminations), line);
	if (r < 0)
		return r;
	if (!seamlab_kvm_lock)
		return -EOPNOTSUPP;
	WRITE_ONCE(seamlab_termination, r);
	return length;
}

static const struct file_operations seamlab_terminate_fops = {
	.open = seamlab_terminate_open,
	.read = seq_read,
	.write = seamlab_terminate_write,
	.llseek = seq_lseek,
	.release = single_release,
};

static int __init seamlab_files(void)
{
	struct dentry *folder;

	if (!seamlab_on)
		return 0;
	folder = debugfs_create_dir("seamlab", NULL);
	debugfs_create_file("instructions", 0400, folder, NULL, &seamlab_instructions_fops);
	debugfs_create_file("calls", 0400, folder, NULL, &seamlab_calls_fops);
	debugfs_create_file("order", 0200, folder, NULL, &seamlab_order_fops);
	debugfs_create_file("terminate", 0600, folder, NULL, &seamlab_terminate_fops);
	return 0;
}
late_initcall(seamlab_files);
