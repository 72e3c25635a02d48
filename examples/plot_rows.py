"""
Rows of a table, in a Pipeline and a grid search
================================================

The estimators take rows of features as well: noise and values of other rows are the augmentation,
and nearest neighbours the second view.
"""

# %%
# 178 wines by 13 measurements. A pipeline scales them, so that the estimator does not have to
# (`scale=None`); the names of the columns pass through.

import matplotlib.pyplot as plt
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_wine
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PowerTransformer, StandardScaler

from deepcluster_sk import ContrastiveClustering
from deepcluster_sk.display import ClusterGalleryDisplay, ClusterMatchDisplay
from deepcluster_sk.model_selection import mean_confidence_scorer, silhouette_scorer

wine = load_wine(as_frame=True)
skewed = ["malic_acid", "magnesium", "color_intensity", "proline"]
prepare = make_column_transformer(
    (PowerTransformer(), skewed), remainder=StandardScaler(), verbose_feature_names_out=False
).set_output(transform="pandas")
model = ContrastiveClustering(n_clusters=3, scale=None, max_epochs=40, random_state=0)
pipe = make_pipeline(prepare, model)
pipe.fit(wine.data)

# %%
# Which features tell a cluster from the others? Each row shows members of one cluster.

ClusterGalleryDisplay.from_estimator(pipe, wine.data)

# %%
# The three cultivars, which the estimator has not seen:

ClusterMatchDisplay.from_estimator(pipe, wine.data, wine.target)

# %%
# A grid search needs no labels either: the scorers judge the clusters of held-out samples. On 89
# rows the silhouette prefers few clusters: a hint where to look, and no proof.

search = GridSearchCV(
    pipe,
    {"contrastiveclustering__n_clusters": [2, 3, 5]},
    scoring={"silhouette": silhouette_scorer, "confidence": mean_confidence_scorer},
    refit="silhouette",
    cv=2,
).fit(wine.data)
for number, silhouette, confidence in zip(
    search.cv_results_["param_contrastiveclustering__n_clusters"],
    search.cv_results_["mean_test_silhouette"],
    search.cv_results_["mean_test_confidence"],
    strict=True,
):
    print(f"{number} clusters: silhouette {silhouette:.2f}, confidence {confidence:.2f}")

plt.show()
