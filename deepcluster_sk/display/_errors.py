"""The errors of the displays: each function builds one of them."""


def missing_matplotlib() -> ImportError:
    """Return the error for an installation without the extra."""
    return ImportError(
        'Plotting needs matplotlib. Install it with: pip install "deepcluster_sk[plot]"'
    )


def nothing_to_show(n_confident: int, n_uncertain: int) -> ValueError:
    """Return the error for a gallery without members."""
    return ValueError(
        f"n_confident={n_confident} and n_uncertain={n_uncertain}, expected integers from 0 on, "
        "and at least one member to show."
    )


def no_thumbnails(n_features: int) -> ValueError:
    """Return the error for thumbnails of samples that are not images."""
    return ValueError(
        f"Thumbnails need images, but the samples are rows of {n_features} features. Draw without "
        "thumbnails, or pass images (n, H, W), (n, H, W, C) or paths."
    )


def unknown_projection(projection: str) -> ValueError:
    """Return the error for the name of a projection that does not exist."""
    return ValueError(f"projection={projection!r}, expected 'pca' or 'tsne'.")


def no_tree(estimator: object) -> TypeError:
    """Return the error for an estimator that does not know which clusters are close."""
    return TypeError(
        f"{type(estimator).__name__} has no linkage_. Pass an estimator of deepcluster_sk that has "
        "been fitted by fit, with up to 500 clusters."
    )


def single_cluster() -> ValueError:
    """Return the error for a tree without branches."""
    return ValueError("The estimator has a single cluster; a tree needs at least two.")


def other_number_of_names(n_names: int, n_clusters: int) -> ValueError:
    """Return the error for names that are not one for each cluster."""
    return ValueError(f"{n_names} names for {n_clusters} clusters. Pass one name for each cluster.")
