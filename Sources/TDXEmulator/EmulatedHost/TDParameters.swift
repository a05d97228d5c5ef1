internal import KVM
internal import MemoryUnits
internal import SystemPackage
internal import TDXModule

/// What KVM_TDX_INIT_VM makes of its argument: its checks after those of the state, and TD_PARAMS for MNG.INIT.
/// Sources: reference/kvm.md §1.5, reference/tdx-module.md §8.3.
struct TDParameters {
    static let pageCount = 6
    static let vcpuPageCount = 6

    /// 48 or 52.
    var guestAddressBits: UInt64
    /// TD_PARAMS, 1,024 bytes.
    var bytes: [UInt8]

    /// The GPA bit that makes an address shared.
    var sharedBit: UInt64 { guestAddressBits == 52 ? 1 << 51 : 1 << 47 }
    /// The level of the entries in the Secure-EPT root.
    var rootLevel: UInt64 { guestAddressBits == 52 ? 4 : 3 }

    /// TD attributes that this KVM lets a VMM choose: SEPT_VE_DISABLE.
    static let supportedAttributes: UInt64 = 1 << 28
    /// x87, SSE, AVX, AVX-512, PKRU, CET, AMX: XCR0 and XSS of the emulated host, as far as the module allows them.
    static let supportedXFAM: UInt64 = 0x6_1AE7
    /// What the module wants of every TD; KVM adds it.
    private static let fixedXFAM: UInt64 = 3
    /// The frequency of the emulated host's time-stamp counter.
    static let hostKilohertz: UInt32 = 2_000_000

    /// The CPUID leaves that a TD's creator may configure, with the bits that are open, in TD_PARAMS order: the module's
    /// own list without what KVM keeps from TDs. As in Linux 7.2 no entry has a flag, also those of sub-leaves. Bits
    /// 23:16 of leaf 0x80000008's EAX are KVM's: the guest-physical width.
    static let configurableCPUID: [CPUIDEntry] = CPUIDConfiguration.all.map { leaf in
        var entry = CPUIDEntry(
            function: leaf.leaf, index: leaf.hasSubleaves ? leaf.subleaf : 0, eax: leaf.eax, ebx: leaf.ebx,
            ecx: leaf.ecx, edx: leaf.edx)
        // The module has these bits fixed; KVM offers them and takes the width out again before MNG.INIT.
        if entry.function == 0x8000_0008 { entry.eax = entry.eax & 0xFF00_FFFF | 0xFF << 16 }
        if entry.function == 7, entry.index == 0 {
            entry.ebx &= ~tsx
            entry.ecx &= ~waitPackage
        }
        return entry
    }
    /// HLE and RTM.
    private static let tsx: UInt32 = 0x810
    private static let waitPackage: UInt32 = 0x20

    static func capabilities(terminate: TerminateSupport) -> TDXCapabilities {
        let announced =
            switch terminate {
            case .announced, .busy: true
            case .absent, .unannounced: false
            }
        return TDXCapabilities(
            supportedAttributes: supportedAttributes, supportedXFAM: supportedXFAM,
            supportedCommands: announced ? 1 : 0, configurableCPUID: configurableCPUID,
            tdvmcalls: TDVMCallSupport(userR11: TDVMCallSupport.setupEventNotify))
    }

    /// - Throws: EINVAL with the text of what was wrong.
    init(_ request: TDXInitialization, maximumVCPUs: Int, kilohertz: UInt32) throws(KVMError) {
        func refuse(_ detail: String) -> KVMError { KVMError("KVM_TDX_INIT_VM", .invalidArgument, detail: detail) }

        let attributes = request.attributes & ~Self.supportedAttributes
        guard attributes == 0 else { throw refuse("attributes 0x\(String(attributes, radix: 16)) are not supported") }
        let xfam = request.xfam & ~Self.supportedXFAM
        guard xfam == 0 else { throw refuse("XFAM 0x\(String(xfam, radix: 16)) is not supported") }
        guard let width = request.cpuid.entry(0x8000_0008, 0) else {
            throw refuse("CPUID leaf 0x80000008 is missing")
        }
        guestAddressBits = UInt64(width.eax >> 16 & 0xFF)
        guard guestAddressBits == 48 || guestAddressBits == 52 else {
            throw refuse("guest-physical width \(guestAddressBits) is neither 48 nor 52")
        }
        // Each configurable leaf takes the entry that matches it. Linux counts: an entry that no leaf took, one that came twice,
        // and one without the flag of a sub-leaf that several leaves took make the count differ.
        let chosen = Self.configurableCPUID.map { request.cpuid.entry($0.function, $0.index) }
        for entry in chosen.lazy.compactMap({ $0 }) where entry.function == 7 && entry.index == 0 {
            guard entry.ebx & Self.tsx == 0, entry.ecx & Self.waitPackage == 0 else {
                throw refuse("TSX and WAITPKG are not supported")
            }
        }
        let taken = chosen.count { $0 != nil }
        guard taken == request.cpuid.count else {
            throw refuse("\(request.cpuid.count) CPUID entries, of which \(taken) are configurable leaves, each once")
        }

        var bytes = [UInt8](repeating: 0, count: 1024)
        func put<Value: FixedWidthInteger>(_ value: Value, at offset: Int) {
            withUnsafeBytes(of: value.littleEndian) { bytes.replaceSubrange(offset..<offset + $0.count, with: $0) }
        }
        put(request.attributes, at: 0)
        put(request.xfam | Self.fixedXFAM, at: 8)
        put(UInt16(clamping: maximumVCPUs), at: 16)
        // EPTP controls: write-back, walk length − 1.
        put(UInt64(6) | (guestAddressBits == 52 ? 4 : 3) << 3, at: 24)
        // CONFIG_FLAGS: GPAW, NO_RBP_MOD.
        put(UInt64(guestAddressBits == 52 ? 1 : 0) | 1 << 2, at: 32)
        // In units of 25 MHz; a remainder is dropped.
        put(UInt16(clamping: kilohertz / 25_000), at: 40)
        bytes.replaceSubrange(80..<128, with: request.mrConfigID)
        bytes.replaceSubrange(128..<176, with: request.mrOwner)
        bytes.replaceSubrange(176..<224, with: request.mrOwnerConfig)
        for (index, entry) in chosen.enumerated() {
            guard var entry else { continue }
            if Self.configurableCPUID[index].function == 0x8000_0008 { entry.eax &= 0xFF00_FFFF }
            for (word, value) in [entry.eax, entry.ebx, entry.ecx, entry.edx].enumerated() {
                put(value, at: 256 + index * 16 + word * 4)
            }
        }
        self.bytes = bytes
    }
}

extension [CPUIDEntry] {
    /// What the CPUID instruction gives by this list, as `kvm_cpuid()` of Linux 7.2 finds it: on an Intel CPU a leaf beyond its
    /// range's last is answered by the last basic leaf; one that is missing by zeros.
    func emulated(_ function: UInt32, _ index: UInt32) -> (eax: UInt32, ebx: UInt32, ecx: UInt32, edx: UInt32) {
        var found = entry(function, index)
        if found == nil, let basic = entry(0, 0) {
            let range = entry(function & 0x8000_0000, 0)
            if range == nil || function > range!.eax { found = entry(basic.eax, index) }
        }
        if let found { return (found.eax, found.ebx, found.ecx, found.edx) }
        // Topology leaves return the level and the x2APIC id for levels that do not exist, too.
        if function == 0xB || function == 0x1F, let first = entry(function, 1) {
            return (0, 0, index & 0xFF, first.edx)
        }
        return (0, 0, 0, 0)
    }

    /// As `kvm_find_cpuid_entry2()`: an entry without KVM_CPUID_FLAG_SIGNIFCANT_INDEX (1) matches every sub-leaf.
    func entry(_ function: UInt32, _ index: UInt32) -> CPUIDEntry? {
        first { $0.function == function && ($0.flags & 1 == 0 || $0.index == index) }
    }
}
