internal import ControlInterface
internal import LinuxSystem
internal import Logging
internal import MemoryUnits
internal import ServiceSupport

/// Copies of tdxd's duplicates with the service manager, which gives them to the next tdxd: so a TD's memory is still given
/// back in steps and its return proven when tdxd and the holder are killed together.
///
/// What stays in the store keeps its memory. A TD's descriptors therefore go by the TD's id, are taken out before tdxd
/// closes its own, and that they are out is awaited. Without a service manager every call does nothing.
struct DescriptorStore: Sendable {
    /// How long the service manager may take to have read what it was sent.
    private static let patience = Duration.seconds(5)

    private let notifier = ServiceNotifier()
    private let log: Logger

    init(log: Logger) { self.log = log }

    /// Hands copies of a TD's duplicates over. Copies that the store has already are kept once. A refusal is logged: tdxd
    /// works without.
    func keep(_ backing: Backing, of id: String) {
        for file in backing.files {
            do throws(LinuxError) {
                try file.descriptor.withDescriptor { number throws(LinuxError) in
                    _ = try notifier.store(number, name: Self.name(id, file.side))
                }
            } catch {
                log.warning("a duplicate cannot be stored", metadata: ["id": "\(id)", "reason": "\(error)"])
                return
            }
        }
    }

    /// Takes a TD's descriptors out, and returns when they are.
    func drop(_ id: String) {
        do throws(LinuxError) {
            for side in [MemorySide.private, .shared] {
                guard try notifier.removeStored(name: Self.name(id, side)) else { return }
            }
            try notifier.awaitProcessing(timeout: Self.patience)
        } catch {
            log.error(
                "stored duplicates may still be there, and keep their memory",
                metadata: ["id": "\(id)", "reason": "\(error)"])
        }
    }

    /// What the former tdxd had stored, by TD. Descriptors of another kind are left in `given`.
    static func takeBack(_ given: inout ListenSockets) throws(LinuxError) -> [String: Backing] {
        var files: [String: [Backing.File]] = [:]
        for name in given.names {
            guard let (id, side) = parse(name), let descriptor = given.take(named: name) else { continue }
            let status = try descriptor.status()
            files[id, default: []].append(
                Backing.File(
                    side: side, size: status.size, identity: status.identity, descriptor: SharedDescriptor(descriptor)))
        }
        return files.mapValues { Backing(files: $0) }
    }

    private static let prefix = "td-"

    private static func name(_ id: String, _ side: MemorySide) -> String { "\(prefix)\(id)-\(side.rawValue)" }

    private static func parse(_ name: String) -> (id: String, side: MemorySide)? {
        guard name.hasPrefix(prefix) else { return nil }
        let parts = name.dropFirst(prefix.count).split(separator: "-", omittingEmptySubsequences: false)
        guard parts.count == 2, let side = MemorySide(rawValue: String(parts[1])) else { return nil }
        return (String(parts[0]), side)
    }
}
