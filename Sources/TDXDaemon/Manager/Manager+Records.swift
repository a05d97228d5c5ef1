internal import ControlInterface
internal import Logging
internal import MemoryUnits
internal import ServiceSupport
internal import Synchronization

extension Manager {
    /// Removes certificates that have become too old: none may be written for a long time. On a worker.
    func pruneCertificates() {
        lookers.submit { [self] in
            let count = store.prune(keeping: listedCertificates)
            if count > 0 { log.info("removed old certificates", metadata: ["count": "\(count)"]) }
        }
    }

    // MARK: Certificates

    func certificates() -> ManagerInterface.ListCertificates.Reply {
        ManagerInterface.ListCertificates.Reply(
            certificates: store.all(onFlaw: unreadable).map { CertificateSummary($0) })
    }

    /// - Parameter name: a TD's name, or its id, which is made of the same characters.
    /// - Throws: `noSuchCertificate`.
    func certificate(_ name: TrustDomainName) throws(ControlError) -> ManagerInterface.GetCertificate.Reply {
        guard let certificate = store.find(name.rawValue, onFlaw: unreadable) else {
            throw .noSuchCertificate(certificate: name.rawValue)
        }
        return ManagerInterface.GetCertificate.Reply(certificate: certificate)
    }

    private func unreadable(_ flaw: String) {
        log.warning("a certificate is not readable", metadata: ["reason": "\(flaw)"])
    }

    // MARK: Keys

    /// The pool of key ids and who holds which. Blocks where the host was not looked at yet.
    func keys() throws(ControlError) -> ManagerInterface.GetKeys.Reply {
        let known = core.withLock { $0.backend }
        let backend = if let known { known } else { try check().backend }
        return core.withLock { core in
            let holdings = core.ledger.holdings.sorted { $0.key.rawValue < $1.key.rawValue }
            return ManagerInterface.GetKeys.Reply(
                backend: backend, capacity: core.ledger.capacity,
                keys: holdings.map { key, holding in
                    KeyHolding(
                        // On hardware the ledger's numbers are names only.
                        keyID: backend == .tdx ? nil : key.rawValue, use: KeyUse(holding.use),
                        name: core.registry[holding.holder]?.record.name, id: holding.holder)
                })
        }
    }
}

extension KeyUse {
    init(_ use: KeyLedger.Use) {
        switch use {
        case .reserved: self = .reserved
        case .inUse: self = .inUse
        case .draining: self = .draining
        }
    }
}
