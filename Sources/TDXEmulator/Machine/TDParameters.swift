internal import KVM
internal import MemoryUnits
internal import SystemPackage
internal import TDXModule

/// What KVM_TDX_INIT_VM makes of its argument: its checks behind those of the state, and TD_PARAMS for MNG.INIT.
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
    /// x87, SSE, AVX, AVX-512, CET, AMX.
    static let supportedXFAM: UInt64 = 0x6_18E7

    /// The CPUID leaves that a TD's creator may configure, with the bits that are open, in TD_PARAMS order: the module's own
    /// list without what KVM keeps from TDs. Bits 23:16 of leaf 0x80000008's EAX are KVM's: the guest-physical width.
    static let configurableCPUID: [CPUIDEntry] = CPUIDConfiguration.all.map { leaf in
        var entry = CPUIDEntry(
            function: leaf.leaf, index: leaf.hasSubleaves ? leaf.subleaf : 0, flags: leaf.hasSubleaves ? 1 : 0,
            eax: leaf.eax, ebx: leaf.ebx, ecx: leaf.ecx, edx: leaf.edx)
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
            supportedCommands: announced ? 1 : 0, configurableCPUID: configurableCPUID)
    }

    /// - Throws: EINVAL with the text of what was wrong.
    init(_ request: TDXInitialization, maximumVCPUs: Int) throws(KVMError) {
        func refuse(_ detail: String) -> KVMError { KVMError("KVM_TDX_INIT_VM", .invalidArgument, detail: detail) }

        let attributes = request.attributes & ~Self.supportedAttributes
        guard attributes == 0 else { throw refuse("attributes 0x\(String(attributes, radix: 16)) are not supported") }
        let xfam = request.xfam & ~Self.supportedXFAM
        guard xfam == 0 else { throw refuse("XFAM 0x\(String(xfam, radix: 16)) is not supported") }
        guard let width = request.cpuid.first(where: { $0.function == 0x8000_0008 }) else {
            throw refuse("CPUID leaf 0x80000008 is missing")
        }
        guestAddressBits = UInt64(width.eax >> 16 & 0xFF)
        guard guestAddressBits == 48 || guestAddressBits == 52 else {
            throw refuse("guest-physical width \(guestAddressBits) is neither 48 nor 52")
        }
        for entry in request.cpuid {
            guard
                Self.configurableCPUID.contains(where: { $0.function == entry.function && $0.index == entry.index })
            else {
                throw refuse("CPUID leaf 0x\(String(entry.function, radix: 16)).\(entry.index) is not configurable")
            }
            if entry.function == 7, entry.index == 0,
                entry.ebx & Self.tsx != 0 || entry.ecx & Self.waitPackage != 0
            {
                throw refuse("TSX and WAITPKG are not supported")
            }
        }

        var bytes = [UInt8](repeating: 0, count: 1024)
        func put<Value: FixedWidthInteger>(_ value: Value, at offset: Int) {
            withUnsafeBytes(of: value.littleEndian) { bytes.replaceSubrange(offset..<offset + $0.count, with: $0) }
        }
        put(request.attributes, at: 0)
        put(request.xfam, at: 8)
        put(UInt16(clamping: maximumVCPUs), at: 16)
        // EPTP controls: write-back, walk length − 1.
        put(UInt64(6) | (guestAddressBits == 52 ? 4 : 3) << 3, at: 24)
        // CONFIG_FLAGS: GPAW, NO_RBP_MOD.
        put(UInt64(guestAddressBits == 52 ? 1 : 0) | 1 << 2, at: 32)
        // 2 GHz in units of 25 MHz.
        put(UInt16(80), at: 40)
        bytes.replaceSubrange(80..<128, with: request.mrConfigID)
        bytes.replaceSubrange(128..<176, with: request.mrOwner)
        bytes.replaceSubrange(176..<224, with: request.mrOwnerConfig)
        for (index, leaf) in Self.configurableCPUID.enumerated() {
            guard
                var entry = request.cpuid.first(where: { $0.function == leaf.function && $0.index == leaf.index })
            else { continue }
            if leaf.function == 0x8000_0008 { entry.eax &= 0xFF00_FFFF }
            for (word, value) in [entry.eax, entry.ebx, entry.ecx, entry.edx].enumerated() {
                put(value, at: 256 + index * 16 + word * 4)
            }
        }
        self.bytes = bytes
    }
}
