internal import CKVM
internal import CLinux
internal import KVM
internal import SystemPackage

/// The memory that a request's argument points into: the process that makes the requests.
///
/// Addresses are the VMM's own and may be anything: a bad one is an answer, never a trap.
public protocol RequestMemory: Sendable {
    /// Copies from the VMM. False: the address is bad, and `bytes` holds anything.
    func read(_ address: UInt, into bytes: UnsafeMutableRawBufferPointer) -> Bool
    /// Copies to the VMM. False: the address is bad.
    func write(_ address: UInt, _ bytes: UnsafeRawBufferPointer) -> Bool
}

/// The memory of this process, for an engine inside the VMM's own.
public struct OwnMemory: RequestMemory {
    public init() {}

    public func read(_ address: UInt, into bytes: UnsafeMutableRawBufferPointer) -> Bool {
        guard let base = bytes.baseAddress, bytes.count > 0 else { return true }
        return tdxd_read_own(base, address, bytes.count) == 0
    }

    public func write(_ address: UInt, _ bytes: UnsafeRawBufferPointer) -> Bool {
        guard let base = bytes.baseAddress, bytes.count > 0 else { return true }
        return tdxd_write_own(address, base, bytes.count) == 0
    }
}

extension RequestMemory {
    func load<Value: BitwiseCopyable>(_ address: UInt, _ value: inout Value) throws(EngineErrno) {
        guard withUnsafeMutableBytes(of: &value, { read(address, into: $0) }) else { throw .fault }
    }

    func store<Value: BitwiseCopyable>(_ address: UInt, _ value: Value) throws(EngineErrno) {
        guard withUnsafeBytes(of: value, { write(address, $0) }) else { throw .fault }
    }

    /// So many bytes; `count` is bounded by the caller.
    func bytes(_ address: UInt, count: Int) throws(EngineErrno) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: count)
        guard bytes.withUnsafeMutableBytes({ read(address, into: $0) }) else { throw .fault }
        return bytes
    }

    /// `count` entries of struct kvm_cpuid_entry2; `count` is bounded by the caller.
    func cpuid(_ address: UInt, count: Int) throws(EngineErrno) -> [CPUIDEntry] {
        let bytes = try bytes(address, count: count * 40)
        return bytes.withUnsafeBytes { bytes in
            (0..<count).map { index in
                func word(_ place: Int) -> UInt32 {
                    bytes.loadUnaligned(fromByteOffset: index * 40 + place * 4, as: UInt32.self)
                }
                return CPUIDEntry(
                    function: word(0), index: word(1), flags: word(2), eax: word(3), ebx: word(4), ecx: word(5),
                    edx: word(6))
            }
        }
    }

    func storeCPUID(_ address: UInt, _ entries: [CPUIDEntry]) throws(EngineErrno) {
        var words: [UInt32] = []
        words.reserveCapacity(entries.count * 10)
        for entry in entries {
            words += [
                entry.function, entry.index, entry.flags, entry.eax, entry.ebx, entry.ecx, entry.edx, 0, 0, 0,
            ]
        }
        guard words.withUnsafeBytes({ write(address, $0) }) else { throw .fault }
    }
}

/// A request's refusal as ioctl(2) knows it: an errno, positive.
struct EngineErrno: Error, Hashable {
    var rawValue: Int32

    static let again = Self(rawValue: 11)
    static let fault = Self(rawValue: 14)
    static let invalid = Self(rawValue: 22)
    static let notTypewriter = Self(rawValue: 25)
    static let tooBig = Self(rawValue: 7)
    static let interrupted = Self(rawValue: 4)
    static let badDescriptor = Self(rawValue: 9)
    static let notSupported = Self(rawValue: 95)
    static let noDevice = Self(rawValue: 19)

    init(rawValue: Int32) { self.rawValue = rawValue }

    init(_ error: KVMError) { rawValue = error.errno.rawValue }
}
