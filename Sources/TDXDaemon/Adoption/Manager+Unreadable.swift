internal import ControlInterface
internal import DomainEnd
internal import Glibc
internal import LinuxSystem
internal import Logging
internal import MemoryUnits
internal import ServiceSupport
internal import Synchronization
internal import SystemPackage

/// Directories of TDs whose record cannot be read. A TD may live there: everything is kept, and counted, until an admin stops it.
extension Manager {
    /// What an invalid record is renamed to; a number is added where there is one already.
    private static let setAside = "domain.json.unreadable"

    /// - Parameters:
    ///   - reason: why the record cannot be read; nil where there is none, which is the case before a holder is started.
    ///   - isDamaged: the file itself is wrong, and not the moment; it is set aside.
    func adoptUnknown(_ id: String, because reason: String?, isDamaged: Bool, _ stored: Backing?) {
        let directory = places.holder(id)
        var record = DomainRecord(
            name: "unreadable-" + id.prefix(12).lowercased().filter { $0.isASCII && ($0.isLetter || $0.isNumber) },
            id: id, memoryBytes: 0, vcpus: 0, createdAt: WallTime.now.rfc3339, ownerUID: ownUID, keyID: 0)
        let link = HolderLink(
            name: record.name, guestBytes: MemorySize.maximum.rawValue,
            .path(Places.socket(inHolder: directory)))
        let process = findProcess(record, directory, link)
        let isSetAside = DirectoryTree.names(in: directory).contains { $0.hasPrefix(Self.setAside) }
        guard reason != nil || process != nil || stored != nil || isSetAside else {
            // The record is written before the holder is started: without one, and without a process, there was none.
            log.warning("removing a holder's directory without a record", metadata: ["id": "\(id)"])
            do throws(LinuxError) { try DirectoryTree.remove(directory) } catch {
                log.error("a holder's directory was not removed", metadata: ["id": "\(id)", "reason": "\(error)"])
            }
            return
        }
        let why = reason ?? (isSetAside ? "it was set aside before" : "there is none")
        record.unreadable = why
        let answer = process.flatMap { _ in try? link.describe(timeout: Self.unknownTimeout) }
        if let answer, answer.id == id, let name = try? TrustDomainName(checking: answer.name) {
            record.name = name.rawValue
            record.memoryBytes = answer.memoryBytes
            record.vcpus = answer.vcpus
            record.ownerUID = answer.ownerUID
            record.createdAt = answer.createdAt
            record.backend = answer.backend
            record.firmware = answer.firmware
            record.keyID = answer.keyID ?? 0
            record.holderPID = process?.pid
        } else {
            // Its size is not known: it may be all that the host has.
            let size = stored.map { $0.files.reduce(UInt64(0)) { $0 &+ min($1.size.rawValue, 1 << 51) } }
            record.memoryBytes = min(
                size ?? (try? MemoryInformation.ofHost())?.total.rawValue ?? 1 << 40, MemorySize.maximum.rawValue
            )
        }
        // Whose descriptors are left is proven by these.
        record.backing = (stored?.identities ?? []).map { .init(device: $0.device, inode: $0.inode) }
        takeKey(&record)
        if isDamaged { setAside(directory) }
        let holder = LiveHolder(record, directory: directory, process: process)
        holder.backing = stored
        if core.withLock({ core in core.registry.hasName(record.name) }) { record.name = "unreadable-\(id)" }
        keepUnreadable(record, holder, why)
        if let answer, process != nil { adoptBacking(of: holder, answer) }
        // Of a file that could only not be read at this moment, the next start reads it.
        guard isDamaged || reason == nil else { return }
        do throws(ControlError) { try write(record, in: directory) } catch {
            log.error("a record cannot be written", metadata: ["id": "\(id)", "reason": "\(error)"])
        }
    }

    /// How long the start of tdxd waits for such a holder.
    static let unknownTimeout = Duration.seconds(2)

    /// The key id that its holder names; any other one where that is not known, so that the pool is not counted too large.
    private func takeKey(_ record: inout DomainRecord) {
        let id = record.id
        let named = record.keyID
        let key: UInt16? = core.withLock { core in
            if named != 0, core.ledger.adopt(KeyID(named), for: id, use: .draining) == nil { return named }
            guard let key = try? core.ledger.reserve(for: id) else { return nil }
            core.ledger.mark(.draining, holder: id)
            return key.rawValue
        }
        if let key { record.keyID = key }
    }

    /// Renames a record that cannot be read; its new name shows why it is there.
    private func setAside(_ directory: String) {
        let present = Set(DirectoryTree.names(in: directory))
        var name = Self.setAside
        var number = 1
        while present.contains(name) {
            number += 1
            name = "\(Self.setAside).\(number)"
        }
        let path = "\(directory)/\(Places.record)"
        // The fence lets tdxd make no symbolic link, by a new name neither: what it led to is written down in its place.
        if let target = try? TextFile.linkTarget(path) {
            do throws(LinuxError) {
                try DurableFile.write(
                    Array("a symbolic link to \(target)\n".utf8), name: name, in: directory, mode: 0o600)
                guard unlink(path) == 0 else { throw LinuxError("unlink", Errno(rawValue: errno), detail: path) }
            } catch {
                log.error(
                    "a record that is a link stays where it is",
                    metadata: ["directory": "\(directory)", "reason": "\(error)"])
            }
            return
        }
        guard rename(path, "\(directory)/\(name)") == 0 else {
            log.error(
                "a record that cannot be read stays where it is",
                metadata: ["directory": "\(directory)", "reason": "\(Errno(rawValue: errno))"])
            return
        }
    }

    /// Lists the TD as quarantined: nothing of it is given to another TD, and a Stop by an admin or its owner ends it.
    func keepUnreadable(_ record: DomainRecord, _ holder: LiveHolder, _ reason: String) {
        let (end, _) = EndMachine.adopting(
            EndNote(),
            Found(
                holder.process == nil ? .gone(inOrder: false) : .alive(says: nil), isAttached: record.isAttached,
                isUnreadable: true))
        let domain = Registry.Domain(
            record: record, end: end,
            reason: "quarantined: its record cannot be read (\(reason)); "
                + (holder.process.map { "its holder, process \($0.pid), goes on" } ?? "no holder of it was found")
                + "; “tdxctl stop \(record.name)” ends it")
        do throws(ControlError) { try register(domain, holder) } catch {
            log.critical("a TD cannot be adopted", metadata: ["td": "\(record.name)", "reason": "\(error)"])
            return
        }
        core.withLock { core in core.ledger.mark(.draining, holder: record.id) }
        watch(holder)
        log.critical(
            "a TD's record cannot be read; the TD is quarantined",
            metadata: [
                "td": "\(record.name)", "id": "\(record.id)", "reason": "\(reason)",
                "holder_pid": "\(holder.process?.pid ?? 0)", "directory": "\(holder.directory)",
            ])
    }
}
