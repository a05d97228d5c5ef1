internal import CKVM
internal import LinuxSystem
internal import SystemPackage

/// ioctl(2) on a KVM descriptor: descriptor, request number, argument → the kernel's result, negative for −errno.
/// Numbers travel as the bit pattern of the pointer, as they do in the kernel's own interface. Tests put a kernel of
/// their own in its place, for answers that no machine at hand gives.
package typealias KVMDoor = @Sendable (Int32, UInt32, UnsafeMutableRawPointer?) -> Int32

/// A KVM descriptor and how requests are made on it: failures become `KVMError`, signals are resumed.
package final class KVMDescriptor: Sendable {
    private let shared: SharedDescriptor
    /// What the descriptor is, for the error of a call after `close()`.
    private let kind: String
    /// For descriptors that come out of this one too.
    let door: KVMDoor

    /// The real door.
    static let kernel: KVMDoor = { tdxd_ioctl_pointer($0, $1, $2) }

    init(
        _ descriptor: consuming OwnedDescriptor, kind: String, door: @escaping KVMDoor = kernel,
        whenClosed: @escaping @Sendable () -> Void = {}
    ) {
        shared = SharedDescriptor(descriptor, whenClosed: whenClosed)
        self.kind = kind
        self.door = door
    }

    package func close() { shared.close() }

    /// Runs `body` with the number; nil once the descriptor is closed.
    func withNumber<Result>(_ body: (Int32) throws -> Result) throws -> Result? {
        try shared.withDescriptor(body)
    }

    /// Runs `body` with the number; EBADF once the descriptor is closed.
    func use<Result>(
        _ operation: String, _ body: (Int32) throws(KVMError) -> Result
    ) throws(KVMError) -> Result {
        guard let result = try shared.withDescriptor(body) else {
            throw KVMError(operation, .badFileDescriptor, detail: "the \(kind) is closed")
        }
        return result
    }

    /// A request whose argument is a number.
    @discardableResult
    package func call(
        _ request: KVMRequest, _ value: UInt64 = 0, _ detail: @autoclosure () -> String = ""
    ) throws(KVMError) -> Int32 {
        try use(request.name) { number throws(KVMError) in
            try Self.resuming(request.name, detail()) {
                door(number, request.number, UnsafeMutableRawPointer(bitPattern: UInt(value)))
            }
        }
    }

    /// A request whose argument is a structure.
    @discardableResult
    package func call<Payload>(
        _ ioctl: Ioctl<Payload>, _ payload: inout Payload, _ detail: @autoclosure () -> String = ""
    ) throws(KVMError) -> Int32 {
        try use(ioctl.request.name) { number throws(KVMError) in
            try Self.resuming(ioctl.request.name, detail()) {
                withUnsafeMutableBytes(of: &payload) {
                    door(number, ioctl.request.number, $0.baseAddress)
                }
            }
        }
    }

    /// A request whose argument is a structure followed by entries, or of another size than its number encodes.
    @discardableResult
    func call(
        _ request: KVMRequest, at pointer: UnsafeMutableRawPointer, _ detail: @autoclosure () -> String = ""
    ) throws(KVMError) -> Int32 {
        try use(request.name) { number throws(KVMError) in
            try Self.resuming(request.name, detail()) { door(number, request.number, pointer) }
        }
    }

    /// One attempt, not resumed: KVM_RUN and what keeps account of its progress. The kernel's result, negative for
    /// −errno.
    func attempt(_ request: KVMRequest, at pointer: UnsafeMutableRawPointer?) throws(KVMError) -> Int32 {
        try use(request.name) { number throws(KVMError) in door(number, request.number, pointer) }
    }

    private static func resuming(
        _ name: String, _ detail: @autoclosure () -> String, _ call: () -> Int32
    ) throws(KVMError) -> Int32 {
        while true {
            let result = call()
            guard result < 0 else { return result }
            let errno = Errno(rawValue: -result)
            // A signal came before anything was done: these requests start over.
            if errno != .interrupted { throw KVMError(name, errno, detail: detail()) }
        }
    }
}
