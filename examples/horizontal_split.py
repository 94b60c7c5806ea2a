"""A linear regression over the patients of several clinics.

    mpcpriv launch -n 3 examples/horizontal_split.py

The data are scikit-learn's diabetes table: 442 patients, ten measurements, and how far the disease got in a
year. Every party holds some of the rows. It boils them down to X'X and X'y by itself and shares only these
sums, 132 numbers for any number of patients. What they come to over all clinics exists as shares, and so does
all that the loop below makes of it.

Opened to everybody: the coefficients. (The table is published with centred columns of one length, and the
number of all patients is public.)
"""

from __future__ import annotations

import sys

import crypten
import crypten.communicator as comm
import numpy as np
import torch
from sklearn.datasets import load_diabetes
from sklearn.linear_model import LinearRegression

PATIENTS, COLUMNS, STEPS = 442, 11, 16
UNIT = PATIENTS / 16  # sums are held in this unit, so that they and their inverse keep their digits

crypten.init()
rank, parties = comm.get().get_rank(), comm.get().get_world_size()

# Each party loads its own rows: every n-th one. Columns get variance 1; a column of ones is the intercept.
table = load_diabetes()
features = torch.from_numpy(table.data[rank::parties] * np.sqrt(PATIENTS))
x = torch.cat([features, torch.ones(len(features), 1)], dim=1)
y = torch.from_numpy(table.target[rank::parties])
own_products, own_moments = x.t() @ x / UNIT, x.t() @ y / UNIT

# Sums over the parties: adding shares sends nothing.
products = sum(crypten.cryptensor(own_products, src=source) for source in range(parties))
moments = sum(crypten.cryptensor(own_moments, src=source) for source in range(parties))

# Solve products @ w = moments. Schulz's iteration doubles the right digits of the inverse with every step; it
# starts below the inverse, because the trace is not less than the largest eigenvalue. (The trace is public:
# there are 11 columns of variance 1.)
inverse = crypten.cryptensor(torch.eye(COLUMNS) / (COLUMNS * PATIENTS / UNIT), src=0)
for _ in range(STEPS):
    inverse = inverse * 2 - inverse.matmul(products.matmul(inverse))
w = inverse.matmul(moments)
w = w + inverse.matmul(moments - products.matmul(w))  # once more, for the last digits

# The one opening.
coefficients = w.get_plain_text().numpy()

# The check, which only works because this table is public: scikit-learn on everybody's rows.
scaled = table.data * np.sqrt(PATIENTS)
pooled = LinearRegression().fit(scaled, table.target)
residuals = table.target - scaled @ coefficients[:-1] - coefficients[-1]
ours, theirs = 1 - (residuals**2).mean() / table.target.var(), pooled.score(scaled, table.target)
expected = np.append(pooled.coef_, pooled.intercept_)
for name, shared, reference in zip([*table.feature_names, "1"], coefficients, expected, strict=True):
    crypten.print(f"  {name:<4} {shared:8.3f} on shares, {reference:8.3f} from scikit-learn")
crypten.print(f"R^2 {ours:.6f} on shares, {theirs:.6f} from scikit-learn")
difference = np.abs(coefficients - expected).max()
crypten.print(f"largest difference of the coefficients: {difference:.1e}")
if not (abs(ours - theirs) < 1e-5 and difference < 0.1):
    sys.exit(f"the regression on shares is not scikit-learn's: a coefficient differs by {difference:.1e}")
