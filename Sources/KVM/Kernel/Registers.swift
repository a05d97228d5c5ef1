internal import CKVM

extension kvm_regs {
    init(_ registers: VCPURegisters) {
        self.init()
        rax = registers.rax
        rbx = registers.rbx
        rcx = registers.rcx
        rdx = registers.rdx
        rsi = registers.rsi
        rdi = registers.rdi
        rsp = registers.rsp
        rbp = registers.rbp
        rip = registers.rip
        rflags = registers.rflags
    }
}

extension VCPURegisters {
    init(_ raw: kvm_regs) {
        self.init()
        rax = raw.rax
        rbx = raw.rbx
        rcx = raw.rcx
        rdx = raw.rdx
        rsi = raw.rsi
        rdi = raw.rdi
        rsp = raw.rsp
        rbp = raw.rbp
        rip = raw.rip
        rflags = raw.rflags
    }
}

extension kvm_sregs {
    /// Changes what a mode needs and leaves the rest as the reset left it.
    mutating func enter(_ mode: VCPUMode) {
        switch mode {
        case .real:
            let code = kvm_segment.realMode(type: 0xB)
            let data = kvm_segment.realMode(type: 0x3)
            cs = code
            (ds, es, fs, gs, ss) = (data, data, data, data, data)
            cr0 &= ~0x8000_0001  // PG and PE off
        case .protected32:
            let code = kvm_segment.flat(selector: 0x08, type: 0xB)
            let data = kvm_segment.flat(selector: 0x10, type: 0x3)
            cs = code
            (ds, es, fs, gs, ss) = (data, data, data, data, data)
            cr0 = cr0 & ~0x8000_0000 | 1  // PG off, PE on
        }
    }
}

extension kvm_segment {
    /// Base 0, 64 KiB.
    static func realMode(type: UInt8) -> Self {
        var segment = Self()
        segment.limit = 0xFFFF
        segment.type = type
        segment.present = 1
        segment.s = 1
        return segment
    }

    /// Base 0, 4 GiB, 32-bit.
    static func flat(selector: UInt16, type: UInt8) -> Self {
        var segment = Self()
        segment.limit = 0xFFFF_FFFF
        segment.selector = selector
        segment.type = type
        segment.present = 1
        segment.s = 1
        segment.db = 1
        segment.g = 1
        return segment
    }
}
