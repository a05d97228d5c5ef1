/// Why a call of io.tdxd.Manager is not carried out. One case for each error of the interface; nothing has been changed
/// when one is answered, except where the case says how far the work has come.
enum Refusal: Error, Hashable, Sendable {
    case invalidField(field: String, value: String, limit: String)
    case noSuchDomain(name: String)
    case nameTaken(name: String)
    case notPermitted(needed: String, reason: String)
    case insufficientMemory(neededBytes: UInt64, availableBytes: UInt64, limit: String)
    case noKeyAvailable(capacity: Int, inUse: Int)
    case firmwareRejected(path: String, reason: String)
    case kernelRefused(operation: String, errno: Int32, errnoName: String, tdxStatus: String?, detail: String)
    case conversionIncomplete(gpa: UInt64, doneBytes: UInt64, bytes: UInt64, reason: String)
    case wrongState(name: String, state: String, operation: String)
    case holderFailed(name: String, reason: String)
    case tryAgain(reason: String)
}

extension Refusal: CustomStringConvertible {
    var description: String {
        switch self {
        case .invalidField(let field, let value, let limit): "\(field) “\(value)” is refused: \(limit)"
        case .noSuchDomain(let name): "there is no TD “\(name)”"
        case .nameTaken(let name): "the name “\(name)” is taken"
        case .notPermitted(let needed, let reason): "not permitted, \(needed) is needed: \(reason)"
        case .insufficientMemory(let needed, let available, let limit):
            "\(needed) bytes are needed and \(available) available (\(limit))"
        case .noKeyAvailable(let capacity, let inUse): "no key id is free: \(inUse) of \(capacity) are in use"
        case .firmwareRejected(let path, let reason): "firmware “\(path)” is rejected: \(reason)"
        case .kernelRefused(let operation, _, let name, let status, let detail):
            "\(operation) failed with \(name)\(status.map { ", TDX status \($0)" } ?? ""): \(detail)"
        case .conversionIncomplete(let gpa, let done, let bytes, let reason):
            "converting \(bytes) bytes at 0x\(String(gpa, radix: 16)) ended after \(done): \(reason)"
        case .wrongState(let name, let state, let operation): "TD “\(name)” is \(state); \(operation) is not possible"
        case .holderFailed(let name, let reason): "the holder of TD “\(name)” failed: \(reason)"
        case .tryAgain(let reason): "try again: \(reason)"
        }
    }
}
