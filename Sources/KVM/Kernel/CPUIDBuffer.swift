internal import CKVM

/// A structure that ends in a counted list of CPUID leaves: kvm_cpuid2, kvm_tdx_capabilities, kvm_tdx_init_vm.
struct CPUIDBuffer: ~Copyable {
    private let bytes: UnsafeMutableRawBufferPointer
    private let headerSize: Int
    private let countOffset: Int

    /// - Parameters:
    ///   - headerSize: bytes before the first entry.
    ///   - countOffset: where the header counts the entries.
    init(headerSize: Int, countOffset: Int, _ entries: [CPUIDEntry]) {
        self.init(headerSize: headerSize, countOffset: countOffset, room: entries.count)
        for (index, entry) in entries.enumerated() {
            var raw = kvm_cpuid_entry2()
            raw.function = entry.function
            raw.index = entry.index
            raw.flags = entry.flags
            raw.eax = entry.eax
            raw.ebx = entry.ebx
            raw.ecx = entry.ecx
            raw.edx = entry.edx
            bytes.storeBytes(of: raw, toByteOffset: headerSize + index * 40, as: kvm_cpuid_entry2.self)
        }
    }

    /// Zeroed, with room for `room` entries.
    init(headerSize: Int, countOffset: Int, room: Int) {
        self.headerSize = headerSize
        self.countOffset = countOffset
        bytes = .allocate(byteCount: headerSize + room * MemoryLayout<kvm_cpuid_entry2>.stride, alignment: 8)
        bytes.initializeMemory(as: UInt8.self, repeating: 0)
        bytes.storeBytes(of: UInt32(room), toByteOffset: countOffset, as: UInt32.self)
    }

    deinit { bytes.deallocate() }

    func withPointer<Result, Failure>(
        _ body: (UnsafeMutableRawPointer) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        try body(bytes.baseAddress!)
    }

    func load<Value: BitwiseCopyable>(at offset: Int, as type: Value.Type = Value.self) -> Value {
        precondition(offset + MemoryLayout<Value>.size <= headerSize)
        return bytes.loadUnaligned(fromByteOffset: offset, as: type)
    }

    func store(_ data: [UInt8], at offset: Int) {
        precondition(offset + data.count <= headerSize)
        for (index, byte) in data.enumerated() { bytes[offset + index] = byte }
    }

    func store(_ value: UInt64, at offset: Int) {
        precondition(offset + 8 <= headerSize)
        bytes.storeBytes(of: value, toByteOffset: offset, as: UInt64.self)
    }

    /// The entries that the header counts, at most as many as there is room for.
    var entries: [CPUIDEntry] {
        let room = (bytes.count - headerSize) / MemoryLayout<kvm_cpuid_entry2>.stride
        return (0..<min(room, Int(load(at: countOffset, as: UInt32.self)))).map { index in
            let raw = bytes.loadUnaligned(
                fromByteOffset: headerSize + index * MemoryLayout<kvm_cpuid_entry2>.stride, as: kvm_cpuid_entry2.self)
            return CPUIDEntry(
                function: raw.function, index: raw.index, flags: raw.flags, eax: raw.eax, ebx: raw.ebx, ecx: raw.ecx,
                edx: raw.edx)
        }
    }
}
