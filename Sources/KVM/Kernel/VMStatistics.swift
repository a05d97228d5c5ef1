internal import LinuxSystem
public import MemoryUnits
internal import SystemPackage

/// KVM's binary statistics of one VM. The kernel keeps the VM as long as the descriptor is open.
public struct VMStatistics: ~Copyable, Sendable {
    private let descriptor: OwnedDescriptor

    init(_ descriptor: consuming OwnedDescriptor) { self.descriptor = descriptor }

    /// Every counter that is a single number, by the kernel's name for it.
    /// - Throws: EPROTO when the file is not laid out as its own header states.
    public func read() throws(KVMError) -> [String: UInt64] {
        // struct kvm_stats_header: flags, name_size, num_desc, id_offset, desc_offset, data_offset.
        let header = try words(6, at: 0)
        let (nameSize, count) = (Int(header[1]), Int(header[2]))
        // struct kvm_stats_desc: flags u32, exponent s16, size u16, offset u32, bucket_size u32, name.
        let stride = 16 + nameSize
        guard nameSize <= 256, count <= 4096 else {
            throw malformed("\(count) counters with names of \(nameSize) bytes")
        }
        let descriptions = try bytes(count * stride, at: UInt64(header[4]))
        var values: [String: UInt64] = [:]
        for index in 0..<count {
            let start = index * stride
            guard number(UInt16.self, descriptions, start + 6) == 1 else { continue }
            let offset = number(UInt32.self, descriptions, start + 8)
            let name = descriptions[(start + 16)..<(start + stride)].prefix { $0 != 0 }
            let data = try bytes(8, at: UInt64(header[5]) + UInt64(offset))
            values[String(decoding: name, as: UTF8.self)] = number(UInt64.self, data, 0)
        }
        return values
    }

    /// Memory that is mapped into the guest at this moment, by the three sizes of stage-2 leaves. For a TD these are
    /// secure-EPT and shared leaves together.
    public func mappedBytes() throws(KVMError) -> ByteCount {
        let values = try read()
        return PageCount(values["pages_4k"] ?? 0).bytes + .mebibytes(2 * (values["pages_2m"] ?? 0))
            + .gibibytes(values["pages_1g"] ?? 0)
    }

    private func words(_ count: Int, at offset: UInt64) throws(KVMError) -> [UInt32] {
        let raw = try bytes(count * 4, at: offset)
        return (0..<count).map { number(UInt32.self, raw, $0 * 4) }
    }

    private func number<Number: FixedWidthInteger & BitwiseCopyable>(
        _ type: Number.Type, _ bytes: [UInt8], _ offset: Int
    ) -> Number {
        bytes.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: offset, as: type) }
    }

    private func bytes(_ count: Int, at offset: UInt64) throws(KVMError) -> [UInt8] {
        let read = try translated { () throws(LinuxError) in
            try descriptor.read(count: count, at: ByteCount(offset))
        }
        guard read.count == count else { throw malformed("\(read.count) of \(count) bytes at \(offset)") }
        return read
    }

    private func malformed(_ detail: String) -> KVMError {
        KVMError("read(KVM statistics)", Errno(rawValue: 71), detail: detail)
    }
}
