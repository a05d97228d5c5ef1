internal import ControlInterface
internal import LinuxSystem
internal import MemoryUnits
internal import ServiceSupport
internal import Synchronization

/// What of the host's memory is private, TD by TD.
extension Manager {
    /// What is known of one TD, and its ranges where they were asked for and are there.
    struct Inventoried {
        var domain: InventoryDomain
        var ranges: PrivateRangeFile?
    }

    /// The TDs there are now, by name, and the host's backend.
    func inventoryBase() -> (ids: [String], backend: Backend) {
        core.withLock { core in (core.registry.sorted.map(\.record.id), Self.expectedBackend(core)) }
    }

    /// What is known of one TD's private memory now; nil when nothing of it is left. Blocks for its holder.
    /// - Parameter patience: how long the holder is waited for; nil for as long as is configured.
    func inventoried(id: String, wantsRanges: Bool, patience: Duration?) -> Inventoried? {
        let (found, holder, backend) = core.withLock { core in
            (core.registry[id], core.holders[id], Self.expectedBackend(core))
        }
        guard let domain = found, !domain.isProvenBack else { return nil }
        guard domain.state == .runnable, let holder else {
            return Inventoried(domain: domain.countedWhole(fallbackBackend: backend))
        }
        let timeout = min(patience ?? .seconds(600), configuration.deadlines.holderReply)
        var silence: String?
        if wantsRanges {
            do throws(ControlError) {
                let file = try holder.privateRanges(memory: domain.record.memoryBytes, timeout: timeout)
                let known = domain.known(file.privateBytes, file.convertingBytes, in: file, fallbackBackend: backend)
                return Inventoried(domain: known, ranges: file)
            } catch {
                silence = Self.reason(error)
            }
            // It may have ended, or its holder died, while it was asked.
            if core.withLock({ $0.registry[id]?.state }) != .runnable {
                return inventoried(id: id, wantsRanges: false, patience: patience)
            }
        }
        do throws(ControlError) {
            let figures =
                if let counts = holder.publishedPages {
                    domain.report(fallbackBackend: backend).with(counts)
                } else {
                    TrustDomain(try holder.figures(timeout: timeout), record: domain.record)
                }
            return Inventoried(
                domain: domain.known(
                    figures.privateBytes, figures.convertingBytes, because: silence.map { "no ranges: \($0)" },
                    fallbackBackend: backend))
        } catch {
            let why = "its holder does not report how much is private (\(Self.reason(error)))"
            return Inventoried(domain: domain.countedWhole(because: why, fallbackBackend: backend))
        }
    }

    private static func reason(_ error: ControlError) -> String {
        if case .holderFailed(_, let reason) = error { reason } else { "\(error)" }
    }
}

extension Registry.Domain {
    /// Nothing of it is left on the host, and that is certified.
    var isProvenBack: Bool { state == .failed && certificate?.complete == true }

    /// As the inventory has a TD whose map is known.
    /// - Parameter reason: why there are no ranges that were asked for.
    fileprivate func known(
        _ privateBytes: UInt64, _ convertingBytes: UInt64, in ranges: PrivateRangeFile? = nil,
        because reason: String? = nil, fallbackBackend: Backend
    ) -> InventoryDomain {
        InventoryDomain(
            name: record.name, id: record.id, state: state, backend: record.backend ?? fallbackBackend, source: .map,
            reason: reason, memoryBytes: record.memoryBytes, privateBytes: privateBytes,
            convertingBytes: convertingBytes,
            sequence: ranges?.sequence, ranges: ranges?.count)
    }

    /// As the inventory has a TD of which it is not known how much is private: whatever is not known to be shared may be.
    fileprivate func countedWhole(because silence: String? = nil, fallbackBackend: Backend) -> InventoryDomain {
        let why =
            switch state {
            case .building: "it is being built"
            case .stopping: "it is being ended"
            case .runnable: silence ?? "it has no holder"
            case .failed, .draining: "not proven back" + (reason.map { ": \($0)" } ?? "")
            }
        return InventoryDomain(
            name: record.name, id: record.id, state: state, backend: record.backend ?? fallbackBackend, source: .whole,
            reason: why, memoryBytes: record.memoryBytes, privateBytes: record.memoryBytes, convertingBytes: 0)
    }
}
